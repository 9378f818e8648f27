"""Whether PostgreSQL takes connections, as pg_isready asks: without a password, and without holding up anybody.

libpq's own PQping would hold up the whole service while it waits, and its messages are in the server's language.
"""

from __future__ import annotations

import asyncio
import struct
from enum import Enum

from remediator.actions.postgres.connection import PostgresConnection

_PROTOCOL = 196_608
_CANNOT_CONNECT_NOW = "57P03"
_ERROR_BYTES = 65_536


class State(Enum):
    """What the server answers to somebody who comes in."""

    TAKES = "it takes connections"
    REJECTS = "it answers, but takes no connections: it is starting, stopping or recovering"
    SILENT = "it does not answer"


async def probe(connection: PostgresConnection) -> State:
    """Say who we are and see whether we are asked for more, or sent away."""
    try:
        async with asyncio.timeout(connection.connect_timeout_seconds):
            reader, writer = await _open(connection)
            try:
                writer.write(_greeting(connection))
                return await _answer(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return State.SILENT


async def _open(connection: PostgresConnection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    target = connection.target
    host, port = str(target.get("hostaddr") or target["host"]), int(target.get("port") or 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


def _greeting(connection: PostgresConnection) -> bytes:
    target = connection.target
    words = ("user", str(target["user"]), "database", str(target["dbname"]))
    body = struct.pack("!i", _PROTOCOL) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


async def _answer(reader: asyncio.StreamReader) -> State:
    kind = await reader.readexactly(1)
    if kind != b"E":
        return State.TAKES
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    fields = (await reader.readexactly(min(max(length - 4, 0), _ERROR_BYTES))).split(b"\0")
    codes = [field[1:].decode() for field in fields if field.startswith(b"C")]
    return State.REJECTS if _CANNOT_CONNECT_NOW in codes else State.TAKES
