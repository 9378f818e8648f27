"""How Slack is talked to: its settings, its client, how long we wait, and what is never logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.async_handler import AsyncRetryHandler
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
)
from slack_sdk.http_retry.request import HttpRequest
from slack_sdk.http_retry.response import HttpResponse
from slack_sdk.http_retry.state import RetryState
from slack_sdk.web.async_client import AsyncWebClient

from remediator.domain.approvals import Person
from remediator.redaction import Redactor

SLACK_HOSTS = frozenset({"slack.com", "slack-gov.com"})
"""Slack's own hosts."""
PATIENCE = 2
"""Seconds of Retry-After that are waited out at once. A longer wait is the outbox's, which has others to tell."""
TIMEOUT = 15
"""Seconds that one call of Slack's may take."""


def _nobody(user: str) -> Person | None:
    return None


@dataclass(frozen=True, slots=True)
class SlackConfig:
    """Settings of Slack.

    Attributes:
        bot_token: `xoxb-`, with the scope chat:write.
        channel: where cards go: an id, or `#name`. `channels` has other ones for some systems.
        signing_secret: for interactions over HTTP.
        app_token: `xapp-`, for Socket Mode.
        team, app: ids that every interaction has to come from; empty for any that is signed.
        people: who a Slack user id is.
        contacts: the Slack user or user group id of a name that rules escalate to.
        page: the address of our pages, for links.
        base_url: Slack's Web API.
        redact: the last look at every text.
    """

    bot_token: str = field(repr=False)
    channel: str
    channels: Mapping[str, str] = field(default_factory=dict)
    signing_secret: str = field(default="", repr=False)
    app_token: str = field(default="", repr=False)
    team: str = ""
    app: str = ""
    people: Callable[[str], Person | None] = _nobody
    contacts: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    base_url: str = "https://slack.com/api/"
    redact: Redactor = field(default_factory=Redactor, repr=False)

    @property
    def hooks(self) -> str:
        """What every response URL has to begin with: Slack's host for them, or else where its API is."""
        place = urlsplit(self.base_url)
        host = f"hooks.{place.netloc}" if place.netloc in SLACK_HOSTS else place.netloc
        return f"{place.scheme}://{host}/"


class ShortWaits(AsyncRateLimitErrorRetryHandler):
    """Waits out a short Retry-After, and leaves a long one to the outbox."""

    async def _can_retry_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if response is None or response.status_code != 429:
            return False
        return retry_after(response.headers) <= PATIENCE


class _Redacted(logging.Filter):
    """slack_sdk logs URLs and answers; tokens and Socket Mode tickets are in some of them."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redact(record.getMessage().split("ticket=")[0]), ()
        record.exc_info = record.exc_text = None
        return True


def slack_logger(redact: Redactor) -> logging.Logger:
    """The logger given to slack_sdk: nothing below a warning, and nothing secret in it."""
    logger = logging.Logger("remediator.slack", logging.WARNING)  # noqa: LOG001 - no level set elsewhere may open it
    logger.parent = logging.getLogger()
    logger.addFilter(_Redacted(redact))
    return logger


def web_client(config: SlackConfig, session: aiohttp.ClientSession | None = None) -> AsyncWebClient:
    """A client of Slack's Web API."""
    handlers: list[AsyncRetryHandler] = [AsyncConnectionErrorRetryHandler(), ShortWaits()]
    return AsyncWebClient(
        token=config.bot_token,
        base_url=config.base_url.rstrip("/") + "/",
        timeout=TIMEOUT,
        session=session,
        retry_handlers=handlers,
        logger=slack_logger(config.redact),
    )


def error_code(error: SlackApiError) -> str:
    """Slack's own word for what went wrong; empty where its answer had none."""
    data = getattr(error.response, "data", {})
    return str(data.get("error", "")) if isinstance(data, dict) else ""


def retry_after(headers: Mapping[str, Any]) -> int:
    """The seconds that an answer asks us to wait."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            text = str(value[0] if isinstance(value, list) else value)
            return int(text) if text.isdecimal() else 30
    return 1
