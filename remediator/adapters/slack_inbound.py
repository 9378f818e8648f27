"""What people click in Slack: verified, acknowledged at once, then counted as a vote.

The same handler serves both ways in: HTTP interactivity (signed) and Socket Mode (authenticated by its app
token). Whoever clicked is looked up in the configuration; what Slack says about their name is never believed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import structlog
from slack_sdk.signature import Clock as SignatureClock
from slack_sdk.signature import SignatureVerifier
from slack_sdk.webhook.async_client import AsyncWebhookClient

from remediator import telemetry
from remediator.adapters.slack_blocks import APPROVE, REJECT, escape, read_button
from remediator.adapters.slack_client import SlackConfig, slack_logger
from remediator.domain.approvals import Vote
from remediator.errors import LedgerUnavailable, StaleWrite
from remediator.pipeline.service import Service

log = structlog.get_logger()

WINDOW = 5 * 60
"""Seconds that a signed request may be old, as Slack's documents say."""
REMEMBERED = 10_000
"""Requests remembered against replays at most; far more than people click within the window."""
ANSWER_TIMEOUT = 10
"""Seconds that one answer to a response URL may take."""


class _Once:
    """Tells a request that was seen before, within the time that it could be sent again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: OrderedDict[str, float] = OrderedDict()

    def first(self, id_: str) -> bool:
        """Whether this is the first time, remembering it."""
        now = self._now()
        while self._seen and (
            len(self._seen) >= REMEMBERED or next(iter(self._seen.values())) < now - 2 * WINDOW
        ):
            self._seen.popitem(last=False)
        if id_ in self._seen:
            return False
        self._seen[id_] = now
        return True


class _Time(SignatureClock):
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def now(self) -> float:
        return self._now()


class SlackInbound:
    """Turns interactions into votes. `now` is Unix seconds, for the age of a request."""

    def __init__(self, config: SlackConfig, service: Service, now: Callable[[], float] = time.time) -> None:
        self._config, self._service = config, service
        self._verifier = (
            SignatureVerifier(config.signing_secret, _Time(now)) if config.signing_secret else None
        )
        self._once = _Once(now)
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Take over an interaction that came by HTTP: "" where it was, else why it is refused."""
        refused = self._forged(body, headers)
        if refused:
            telemetry.SLACK.labels("forged").inc()
            log.warning("a Slack request was refused", why=refused)
            return refused
        payload = _payload(body)
        return (
            self.take(payload)
            if payload is not None
            else _refuse("malformed", "there is no payload in this request")
        )

    def receive_once(self, id_: str, payload: Mapping[str, Any]) -> None:
        """Take over an interaction that came through Socket Mode, by the id of its envelope."""
        if self._once.first(id_):
            self.take(payload)

    def take(self, payload: Mapping[str, Any]) -> str:
        """Begin to handle a verified interaction, in a task of its own: the answer to Slack does not wait for it."""
        if not self._ours(payload):
            return _refuse("stranger", "this request is from another workspace or app")
        self._spawn(self._handle(payload))
        return ""

    async def idle(self, within: float | None = None) -> None:
        """Wait until what was taken over is done, at most `within` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)

    async def close(self) -> None:
        """Finish what was acknowledged; a click that was answered with 200 is not dropped."""
        await self.idle(2 * ANSWER_TIMEOUT)
        for task in self._tasks:
            task.cancel()

    def _forged(self, body: bytes, headers: Mapping[str, str]) -> str:
        if self._verifier is None:
            return "interactions over HTTP are not set up"
        stamp = headers.get("X-Slack-Request-Timestamp", "")
        signature = headers.get("X-Slack-Signature", "")
        try:
            valid = stamp.isascii() and stamp.isdecimal() and self._verifier.is_valid(body, stamp, signature)
        except (UnicodeDecodeError, TypeError):  # a body that is no text, or a signature that is not ASCII
            valid = False
        if not valid:
            return "the signature or its time is not right"
        # The signature covers time and body, so it is the request's identity.
        return "" if self._once.first(signature) else "this very request was taken before"

    def _ours(self, payload: Mapping[str, Any]) -> bool:
        team, app = _field(payload, "team", "id"), payload.get("api_app_id")
        return (not self._config.team or team == self._config.team) and (
            not self._config.app or app == self._config.app
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="slack-interaction")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, payload: Mapping[str, Any]) -> None:
        try:
            answer = await self._decide(payload)
        except (LedgerUnavailable, StaleWrite) as error:
            telemetry.SLACK.labels("failed").inc()
            log.warning("a click could not be counted", error=str(error))
            answer = "Nothing was decided: the ledger could not be written. Please click again."
        except Exception:
            # A task of its own has nobody above it who would notice.
            telemetry.SLACK.labels("failed").inc()
            log.exception("a click failed in a way it should not")
            answer = "Nothing was decided: something is wrong on our side; the logs tell."
        if answer:
            await self._answer(str(payload.get("response_url") or ""), answer)

    async def _decide(self, payload: Mapping[str, Any]) -> str:
        """Count the click. "" where it counted; else what to tell the person, who alone sees it."""
        actions = payload.get("actions") or [{}]
        action = actions[0] if isinstance(actions, list) and isinstance(actions[0], Mapping) else {}
        choice = action.get("action_id")
        if payload.get("type") != "block_actions" or choice not in (APPROVE, REJECT):
            telemetry.SLACK.labels("ignored").inc()
            return ""
        try:
            id_, digest = read_button(str(action.get("value", "")))
        except ValueError as error:
            telemetry.SLACK.labels("malformed").inc()
            return f"Nothing was decided: {error}."
        user = str(_field(payload, "user", "id") or "")
        person = self._config.people(user)
        if person is None:
            telemetry.SLACK.labels("unknown_person").inc()
            log.warning("a click of somebody unknown was refused", user=user, remediation=id_)
            await self._service.note("slack_person_unknown", user=user, remediation=id_, choice=choice)
            return (
                "Sorry, your Slack account is not linked to anybody who may decide here. "
                f"Ask for your user id {escape(user)} to be added to the people in the configuration."
            )
        try:
            refused = await self._service.vote(id_, Vote(person, choice == APPROVE, digest, "slack"))
        except KeyError:
            refused = "this remediation is not known (any more)"
        telemetry.SLACK.labels("refused" if refused else "counted").inc()
        return f"This did not count: {escape(self._config.redact(refused))}." if refused else ""

    async def _answer(self, url: str, text: str) -> None:
        if not url.startswith(self._config.hooks):
            log.warning("a response URL is not Slack's, so it is not used", host=url.split("/")[2:3])
            return
        client = AsyncWebhookClient(url, timeout=ANSWER_TIMEOUT, logger=slack_logger(self._config.redact))
        try:
            answer = await client.send(text=text, response_type="ephemeral", replace_original=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("a click could not be answered", error=type(error).__name__)
            return
        if answer.status_code != 200:
            log.warning("a click could not be answered", status=answer.status_code)


def _refuse(outcome: str, reason: str) -> str:
    telemetry.SLACK.labels(outcome).inc()
    log.warning("a Slack request was refused", why=reason)
    return reason


def _payload(body: bytes) -> Mapping[str, Any] | None:
    try:
        payload = json.loads(parse_qs(body.decode())["payload"][0])
    except (ValueError, KeyError):
        return None
    return payload if isinstance(payload, dict) else None


def _field(payload: Mapping[str, Any], *path: str) -> Any:
    value: Any = payload
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
