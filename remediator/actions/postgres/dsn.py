"""The part of libpq's connection strings that a connection may use.

Read here, without libpq, because connections are checked when rules are loaded. What is read here is what libpq is
given, so that the two cannot understand a text differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

PARTS = frozenset(
    {
        "host", "hostaddr", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl",
        "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "channel_binding", "gssencmode", "target_session_attrs",
    }
)  # fmt: skip
"""What a dsn may say; a secret, and what could run something else than we mean, is not among it."""

_PAIR = re.compile(r"([a-z_]+)\s*=\s*([^\s'\\]+)(?:\s+|$)")


def read_dsn(dsn: str) -> Mapping[str, str]:
    """Its parts by libpq's names, from a URI or from `name=value` pairs without quotes.

    Raises:
        ValueError: when it is neither; the message holds nothing of the text, which may hold a password.
    """
    try:
        return _uri(dsn) if dsn.startswith(("postgresql://", "postgres://")) else _pairs(dsn)
    except ValueError:
        raise ValueError(
            "this is no plain connection string: a postgresql:// URI, or name=value pairs"
        ) from None


def _pairs(dsn: str) -> Mapping[str, str]:
    told, at = {}, 0
    text = dsn.strip()
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise ValueError
        told[pair[1]], at = pair[2], pair.end()
    return told


def _uri(dsn: str) -> Mapping[str, str]:
    if any(letter.isspace() for letter in dsn):
        raise ValueError
    uri = urlsplit(dsn)
    who, _, where = uri.netloc.rpartition("@")
    user, _, secret = who.partition(":")
    host, port = (where, "") if "," in where else (uri.hostname or "", str(uri.port or ""))
    said = {"host": host, "port": port, "user": user, "password": secret, "dbname": uri.path[1:]}
    return {**{name: unquote(value) for name, value in said.items() if value}, **dict(parse_qsl(uri.query))}
