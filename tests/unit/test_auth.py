"""Who is asking: tokens, passwords, sessions, and everything that must not pass for them."""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta

import bcrypt
import pytest

from remediator.domain.approvals import Person
from remediator.testing import NOON
from remediator.web.auth import Account, People, WebhookKeys, bearer, is_loopback
from remediator.web.sessions import KEY_BYTES, Sessions, local_path

ADA, BOB = Person("ada", frozenset({"devops"})), Person("bob")
PEOPLE = People(
    [Account(ADA, "ada-token", "U0ADA"), Account(BOB, "bob-token"), Account(Person("carl"), slack="U0CARL")]
)
KEY = secrets.token_bytes(KEY_BYTES)
HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


def basic(name: str, password: str) -> str:
    """The header that a basic-auth client sends."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param("ada-token", ADA, id="ada"),
        pytest.param("bob-token", BOB, id="bob"),
        pytest.param("ada-toke", None, id="a-prefix"),
        pytest.param("ada-token ", None, id="more"),
        pytest.param("", None, id="empty-is-nobody-although-carl-has-no-token"),
        pytest.param("ädä", None, id="not-ascii"),
        pytest.param("\udcff", None, id="not-even-unicode"),
    ],
)
def test_people_by_token(token: str, expected: Person | None) -> None:
    """A person is who shows exactly their token."""
    assert expected == PEOPLE.by_token(token)


def test_people_by_slack() -> None:
    """A Slack user id is somebody only where configuration says so."""
    assert PEOPLE.by_slack("U0ADA") == ADA
    assert PEOPLE.by_slack("U0EVE") is None
    assert PEOPLE.by_slack("") is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("", "")],
)
def test_bearer(header: str, expected: str) -> None:
    """Only a bearer header holds a token."""
    assert expected == bearer(header)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("Bearer right", True, id="token"),
        pytest.param("bearer right", True, id="scheme-in-small-letters"),
        pytest.param("Bearer wrong", False, id="wrong-token"),
        pytest.param("Bearer ", False, id="no-token"),
        pytest.param("", False, id="no-header"),
        pytest.param("Token right", False, id="other-scheme"),
        pytest.param(basic("am", "open sesame"), True, id="password"),
        pytest.param(basic("am", "open sesam"), False, id="wrong-password"),
        pytest.param(basic("eve", "open sesame"), False, id="unknown-name-with-a-known-password"),
        pytest.param(basic("am", ""), False, id="no-password"),
        pytest.param("Basic !!!", False, id="not-base64"),
        pytest.param("Basic " + base64.b64encode(b"\xff:\xff").decode(), False, id="not-utf-8"),
        pytest.param(basic("am", "x" * 100), False, id="longer-than-bcrypt-reads"),
    ],
)
async def test_webhook_keys(header: str, expected: bool) -> None:
    """The matrix: only a right token or a right name with its password admits, again when it is remembered."""
    keys = WebhookKeys(["right", "other"], {"am": HASH, "pm": HASH})

    assert [expected, expected] == [await keys.admit(header), await keys.admit(header)]


async def test_a_long_password_is_not_cut() -> None:
    """Bcrypt reads 72 bytes: a longer password must not pass for its beginning."""
    password = "p" * 72
    keys = WebhookKeys(users={"am": bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()})

    assert await keys.admit(basic("am", password)) is True
    assert await keys.admit(basic("am", password + "p")) is False


async def test_only_right_headers_are_remembered() -> None:
    """A flood of wrong headers fills no memory, and odd spellings of right ones only so much."""
    keys = WebhookKeys(["right"])

    wrong = [await keys.admit(f"Bearer wrong-{n}") for n in range(100)]
    right = [await keys.admit(f"Bearer{' ' * n}right") for n in range(1, 50)]

    assert not any(wrong)
    assert all(right)
    assert len(keys._known) <= 4


async def test_a_broken_hash_admits_nobody() -> None:
    """A hash that is none is no password."""
    keys = WebhookKeys(users={"am": "not a hash"})

    assert await keys.admit(basic("am", "not a hash")) is False


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("evil", False),
        (None, False),
    ],
)
def test_is_loopback(address: str | None, expected: bool) -> None:
    """Only this machine's own addresses are loopback."""
    assert expected is is_loopback(address)


def sessions(people: People = PEOPLE, key: bytes = KEY) -> Sessions:
    """Sessions that last an hour."""
    return Sessions(people, key, timedelta(hours=1))


def test_a_session_says_who() -> None:
    """The cookie that was made for Ada is Ada's, until its time is over."""
    cookie = sessions().begin(ADA, NOON)

    session = sessions().read(cookie, NOON + timedelta(minutes=59))
    assert session is not None
    assert session.person == ADA
    assert sessions().read(cookie, NOON + timedelta(hours=1)) is None


def test_a_cookie_holds_no_token() -> None:
    """Neither the token nor its plain digest can be read out of the cookie."""
    body = base64.urlsafe_b64decode(sessions().begin(ADA, NOON).split(".")[0]).decode()

    assert "ada-token" not in body
    assert PEOPLE.mark("ada") not in body


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), id="signature"),
        pytest.param(lambda cookie: "A" + cookie[1:] if cookie[0] != "A" else "B" + cookie[1:], id="body"),
        pytest.param(lambda cookie: cookie.split(".")[0], id="no-signature"),
        pytest.param(lambda cookie: "." + cookie.split(".")[1], id="no-body"),
        pytest.param(lambda cookie: "", id="empty"),
        pytest.param(lambda cookie: "ä.ö", id="not-ascii"),
    ],
)
def test_a_forged_cookie_is_nobody(change: object) -> None:
    """Whatever is changed, nobody is signed in."""
    forged = change(sessions().begin(ADA, NOON))  # type: ignore[operator]

    assert sessions().read(forged, NOON) is None


def test_a_session_ends_with_its_token() -> None:
    """Somebody whose token was changed, or who was taken off the list, is signed out."""
    cookie = sessions().begin(ADA, NOON)

    assert sessions(People([Account(ADA, "new-token")])).read(cookie, NOON) is None
    assert sessions(People([Account(BOB, "bob-token")])).read(cookie, NOON) is None


def test_a_session_is_bound_to_its_key() -> None:
    """Another service's cookie is nobody's, and a key too short to sign with is refused."""
    cookie = sessions().begin(ADA, NOON)

    assert sessions(key=secrets.token_bytes(KEY_BYTES)).read(cookie, NOON) is None
    with pytest.raises(ValueError, match="32 are needed"):
        sessions(key=b"short")


def test_every_session_has_its_own_form_token() -> None:
    """A form token seen in one session is of no use in another."""
    made = [sessions().read(sessions().begin(ADA, NOON), NOON) for _ in range(2)]

    assert made[0] is not None
    assert made[1] is not None
    assert made[0].csrf != made[1].csrf


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("/remediations/x?y=1", "/remediations/x?y=1"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\..\\b", "/"),
        ("javascript:alert(1)", "/"),
        ("/x\nSet-Cookie: a=b", "/"),
        ("", "/"),
    ],
)
def test_local_path(wanted: str, expected: str) -> None:
    """Signing in leads to a page of ours and nowhere else."""
    assert expected == local_path(wanted)
