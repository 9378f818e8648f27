"""What the web needs to be told. Bootstrap fills it from the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from remediator.domain.rules import Mode
from remediator.redaction import Redactor

WEBHOOK = "/api/v1/alertmanager"


def utc_now() -> datetime:
    """The time by the machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Settings of the web.

    Attributes:
        mode: the service's cap, for people to see.
        webhook_tokens: bearer tokens that Alertmanager may show.
        webhook_users: user names for basic authentication, each with its bcrypt hash.
        allow_unauthenticated: a webhook without credentials, and pages read without signing in, from loopback only.
        body_limit: the largest webhook body, in bytes.
        retry_after: what a 503 tells the sender to wait, in seconds.
        session_key: signs sessions, at least 32 bytes; empty for one made at start, so that a restart signs out.
        session_lasts: how long a sign-in holds.
        public_url: where people reach the pages; https there makes the cookie Secure.
        redact: the last look at every text that leaves.
        now: the clock that sessions expire by.
    """

    mode: Mode = Mode.SUGGEST
    webhook_tokens: tuple[str, ...] = field(default=(), repr=False)
    webhook_users: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_unauthenticated: bool = False
    body_limit: int = 8 * 1024 * 1024
    retry_after: int = 5
    session_key: bytes = field(default=b"", repr=False)
    session_lasts: timedelta = timedelta(hours=12)
    public_url: str = ""
    redact: Redactor = field(default_factory=Redactor, repr=False)
    now: Callable[[], datetime] = utc_now
