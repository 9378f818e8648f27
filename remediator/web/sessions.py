"""Sessions of the pages: a signed cookie that says who, until when, and nothing else. No state is kept."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from remediator.domain.approvals import Person
from remediator.web.auth import People

COOKIE = "remediator_session"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in person. `csrf` must come back in every form."""

    person: Person
    csrf: str
    expires_at: datetime


class Sessions:
    """Makes and reads the cookie. A session ends by time, and when the person or their token is changed."""

    def __init__(self, people: People, key: bytes, lasts: timedelta) -> None:
        if key and len(key) < KEY_BYTES:
            raise ValueError(f"the session key has {len(key)} bytes, at least {KEY_BYTES} are needed")
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self._people, self._lasts = people, lasts

    def begin(self, person: Person, now: datetime) -> str:
        """The cookie's value for somebody who just showed their token."""
        told = {
            "name": person.name,
            "until": int((now + self._lasts).timestamp()),
            "mark": self._mark(person.name),
            "id": secrets.token_urlsafe(12),
        }
        body = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
        return f"{body}.{self._sign('session', body)}"

    def read(self, cookie: str, now: datetime) -> Session | None:
        """Who is signed in; None for anything forged, expired or out of date."""
        body, _, signature = cookie.rpartition(".")
        if not body.isascii() or not signature.isascii():
            return None
        if not hmac.compare_digest(signature, self._sign("session", body)):
            return None
        try:
            told = json.loads(base64.urlsafe_b64decode(body))
            name, until, mark, id_ = told["name"], told["until"], told["mark"], told["id"]
        except (binascii.Error, ValueError, KeyError, TypeError):
            return None
        if not (isinstance(name, str) and isinstance(mark, str) and isinstance(until, int)):
            return None
        expires_at = datetime.fromtimestamp(until, UTC)
        person = self._people.by_name(name)
        if person is None or now >= expires_at or not hmac.compare_digest(mark, self._mark(name)):
            return None
        return Session(person, self._sign("form", id_), expires_at)

    def _mark(self, name: str) -> str:
        return self._sign("token", self._people.mark(name))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}:{text}".encode(), "sha256").hexdigest()


def local_path(wanted: str) -> str:
    """Where to go after signing in: a path of ours, never another site."""
    parts = urlsplit(wanted)
    ours = (
        wanted.startswith("/")
        and not wanted.startswith(("//", "/\\"))
        and not parts.scheme
        and not parts.netloc
    )
    return wanted if ours and "\\" not in wanted and wanted.isprintable() else "/"
