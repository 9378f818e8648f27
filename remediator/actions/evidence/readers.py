"""One small reader a sort of source. Each only reads, and raises an ActionError where it cannot."""

from __future__ import annotations

import json
import os
from typing import Any

import aiohttp

from remediator.actions.evidence.connection import (
    DockerSource,
    FileSource,
    JournalSource,
    PageSource,
    RedisSource,
    Source,
)
from remediator.engine import Engine
from remediator.errors import PermanentFailure, TemporaryFailure
from remediator.httpcalls import Caller, secret
from remediator.offload import offload
from remediator.programs import run
from remediator.rooted import folder, looking, regular


async def read(source: Source, most_bytes: int, seconds: float) -> bytes:
    """What the source says now; somewhat more than `most_bytes` where there is more."""
    if isinstance(source, DockerSource):
        return await _docker(source, seconds)
    if isinstance(source, RedisSource):
        return await _redis(source, seconds)
    if isinstance(source, JournalSource):
        return await _journal(source, seconds)
    if isinstance(source, FileSource):
        return await offload(_file, source, most_bytes)
    return await _page(source, most_bytes, seconds)


async def _docker(source: DockerSource, seconds: float) -> bytes:
    engine = Engine(source.base_url, seconds)
    missing = f"there is no container {source.container}"

    def logs(api: Any) -> bytes:
        found: bytes = api.logs(source.container, timestamps=True, tail=source.lines, stream=False)
        return found

    def stats(api: Any) -> bytes:
        seen = api.inspect_container(source.container)
        told = {
            "id": seen["Id"],
            "image": seen["Image"],
            "state": seen["State"],
            "restarts": seen.get("RestartCount", 0),
            "stats": api.stats(source.container, stream=False) if seen["State"]["Running"] else None,
        }
        return json.dumps(told, indent=1, sort_keys=True).encode()

    try:
        return await engine.look(logs if source.type == "docker_logs" else stats, missing)
    finally:
        await engine.close()


async def _redis(source: RedisSource, seconds: float) -> bytes:
    from redis import exceptions
    from redis.asyncio import Redis

    password = await offload(secret, source.password_file) if source.password_file else None
    client: Redis = Redis.from_url(
        source.url,
        username=source.username,
        password=password,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        protocol=2,
        driver_info=None,
        encoding_errors="replace",
    )
    try:
        info = await client.info("default")
        slow = [_entry(one) for one in await client.slowlog_get(source.entries)]
    except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
        raise PermanentFailure(f"redis refuses us: {error}") from error
    except (exceptions.RedisError, OSError) as error:
        raise TemporaryFailure(f"redis does not answer: {type(error).__name__}") from error
    finally:
        await client.aclose()
    return json.dumps({"slowlog": slow, "info": info}, indent=1, default=str).encode()


def _entry(raw: Any) -> dict[str, Any]:
    """When, how long and which command; its arguments are people's data."""
    command = raw["command"]
    words = list(command) if isinstance(command, (list, tuple)) else command.split()
    name = words[0] if words else b""
    return {
        "at": raw["start_time"],
        "duration_seconds": raw["duration"] / 1e6,
        "command": name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name),
        "arguments": max(0, len(words) - 1),
    }


async def _journal(source: JournalSource, seconds: float) -> bytes:
    where = [f"--directory={source.directory}"] if source.directory else []
    argv = [
        "journalctl",
        *where,
        f"--unit={source.unit}",
        f"--lines={source.lines}",
        "--output=short-iso",
        "--no-pager",
        "--quiet",
        "--utc",
    ]
    done = await run(argv, seconds)
    if done.status is None:
        raise TemporaryFailure(done.told)
    # It ends with 1 where there is nothing to show.
    if done.status != 0 and done.told:
        raise PermanentFailure(f"journalctl: {done.told}")
    return done.out.encode()


def _file(source: FileSource, most_bytes: int) -> bytes:
    with (
        looking(source.path),
        folder(source.path.parent) as parent,
        regular(parent, source.path.name) as file,
    ):
        size = os.fstat(file).st_size
        # A little more, so that it is seen that more was there.
        most = min(size, most_bytes + 1)
        return os.pread(file, most, size - most)


async def _page(source: PageSource, most_bytes: int, seconds: float) -> bytes:
    caller = Caller(source.url, name=source.url, timeout_seconds=seconds)
    try:
        answer = await caller.answer("GET", "", most_bytes=most_bytes + 1)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise TemporaryFailure(f"{source.url} does not answer: {type(error).__name__}") from error
    # What it answered is the evidence, whatever it is.
    return f"HTTP {answer.status}\n".encode() + answer.body
