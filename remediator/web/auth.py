"""Who is asking: Alertmanager by token or password, people by their token or a session made from it.

Every comparison of a secret is in constant time and over digests, or a look into a dictionary, so that neither its
length nor its beginning shows in how long the answer takes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import bcrypt

from remediator.domain.approvals import Person

_PROCESS_KEY = secrets.token_bytes(32)
BCRYPT_BYTES = 72
"""bcrypt reads no more of a password than this; a longer one is refused, not cut."""


def _digest(secret: bytes) -> bytes:
    # Keyed with what nobody knows, so that nothing can be learnt from how long two digests take to differ.
    return hashlib.blake2b(secret, key=_PROCESS_KEY, digest_size=32).digest()


def _token_digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def bearer(header: str) -> str:
    """The token of an `Authorization: Bearer` header, empty where it is something else."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_loopback(address: str | None) -> bool:
    """Whether an address is this machine's own."""
    try:
        return address is not None and ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Account:
    """A person who may use us, the token that proves it here, and the user id that proves it in Slack."""

    person: Person
    token: str = field(default="", repr=False)
    slack: str = ""


class People:
    """The people that configuration lists."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        listed = tuple(accounts)
        self._accounts = [(_token_digest(one.token), one.person) for one in listed if one.token]
        self._by_name = {person.name: (digest, person) for digest, person in self._accounts}
        self._by_slack = {one.slack: one.person for one in listed if one.slack}

    def by_token(self, token: str) -> Person | None:
        """Whose token it is. Every token is compared, whichever matches."""
        shown = _token_digest(token)
        found: Person | None = None
        for digest, person in self._accounts:
            if hmac.compare_digest(shown, digest):
                found = person
        return found if token else None

    def by_name(self, name: str) -> Person | None:
        """The person of that name, for a session."""
        known = self._by_name.get(name)
        return known[1] if known else None

    def by_slack(self, user: str) -> Person | None:
        """Whose Slack user id it is."""
        return self._by_slack.get(user)

    def mark(self, name: str) -> str:
        """A digest of the person's token. Sessions are bound to it, so that a changed token ends them."""
        known = self._by_name.get(name)
        return known[0].hex() if known else ""


class WebhookKeys:
    """What a sender of alerts has to show: a bearer token, or a user name and password as exporter-toolkit has them.

    A header that was checked once is remembered, so that bcrypt is paid once per password and
    not once per post. Only headers that were right are remembered.
    """

    def __init__(self, tokens: Iterable[str] = (), users: Mapping[str, str] | None = None) -> None:
        self._tokens = tuple(_digest(token.encode()) for token in tokens if token)
        self._users = {name: hashed.encode() for name, hashed in (users or {}).items()}
        self._known: dict[str, None] = {}
        # One at a time: checking passwords must not take the machine away from remediating.
        self._checking = asyncio.Lock()

    @property
    def any(self) -> bool:
        """Whether anything is demanded at all."""
        return bool(self._tokens or self._users)

    def knows(self, header: str) -> bool:
        """Whether the `Authorization` header was found right before.

        A dictionary compares only what has the same hash, and strings are hashed with a key that nobody knows: how long
        it takes tells nothing of how much of a guess is right.
        """
        return header in self._known

    async def admit(self, header: str) -> bool:
        """Whether the `Authorization` header is right."""
        if self.knows(header):
            return True
        scheme, _, rest = header.partition(" ")
        if scheme.lower() == "basic" and self._users:
            return await self._basic(rest.strip(), header)
        token = _digest(bearer(header).encode("utf-8", "surrogatepass"))
        right = [hmac.compare_digest(token, known) for known in self._tokens]
        if any(right):
            self._remember(header)
        return any(right)

    async def _basic(self, encoded: str, header: str) -> bool:
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return False
        async with self._checking:
            if self.knows(header):
                return True
            # An unknown name is checked against somebody's hash, so that it takes as long as a known one.
            hashed = self._users.get(name, next(iter(self._users.values())))
            right = await asyncio.to_thread(_check, password, hashed) and name in self._users
        if right:
            self._remember(header)
        return right

    def _remember(self, header: str) -> None:
        # One header per credential is what honest senders have; the bound is for odd spellings of them.
        if len(self._known) >= 4 * (len(self._tokens) + len(self._users)):
            self._known.clear()
        self._known[header] = None


def _check(password: str, hashed: bytes) -> bool:
    plain = password.encode()
    fits = len(plain) <= BCRYPT_BYTES
    try:
        return bcrypt.checkpw(plain if fits else b"", hashed) and fits
    except ValueError:  # a hash that is none; settings refuse those, and here it admits nobody
        return False
