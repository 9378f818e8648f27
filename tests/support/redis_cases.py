"""One use of each Redis action, with what a test needs to prepare it, to look at it and to spoil it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remediator.actions.redis import (
    BackgroundSave,
    Diagnose,
    FlushDb,
    MemoryPurge,
    RedisConnection,
    SlowLog,
    UnlinkPrefix,
)
from remediator.domain.plans import Effect, Result
from tests.support.redis import RedisServer

DB = 1
"""The database that the actions are given; another one holds what they must not touch."""


@dataclass
class Case:
    """A use of an action on a server that was prepared for it."""

    server: RedisServer
    action: Any
    params: Mapping[str, Any]
    command: bytes
    """What is sent when it acts, as Redis's protocol has it."""
    done: Callable[[dict[str, Any], dict[str, Any]], bool]
    """Whether the second look is the planned effect on the first."""
    hostile: tuple[Mapping[str, Any], ...]
    reads: bool = False
    irreversible: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def connection(self, *, port: int | None = None, **more: Any) -> RedisConnection:
        """The connection as a rule file would name it."""
        given = {
            "kind": "redis",
            "url": f"redis://127.0.0.1:{port or self.server.port}/{DB}",
            "timeout_seconds": 5,
            **self.settings,
            **more,
        }
        return RedisConnection.model_validate(given)

    def parameters(self, **more: Any) -> Any:
        """The parameters, validated."""
        return self.action.Params.model_validate({"connection": "cache", **self.params, **more})

    def look(self) -> dict[str, Any]:
        """Every key with its value, and how often what was called."""
        return look(self.server)


def look(server: RedisServer) -> dict[str, Any]:
    """What an administrator sees."""
    found: dict[str, Any] = {}
    for db in (0, DB):
        with server.client(db=db) as client:
            found[f"db{db}"] = {key: client.get(key) for key in client.scan_iter()}
    with server.client() as client:
        calls = client.info("commandstats")
        found["purges"] = calls.get("cmdstat_memory|purge", {}).get("calls", 0)
        found["saves"] = client.info("persistence")["rdb_saves"]
        found["slow"] = client.slowlog_len()
    return found


def fill(server: RedisServer, *, keys: int = 300) -> None:
    """Cache entries, sessions beside them, another system's database, and a slow log that holds something.

    On a busy machine any command may be a slow one: from here on only what a test asks for is logged.
    """
    with server.client(db=DB) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.ping()
        client.config_set("slowlog-log-slower-than", -1)
    with server.client(db=DB) as client:
        client.mset({f"seg:{number}": "x" * 50 for number in range(keys)})
        client.mset({"session:1": "alice", "segment": "not under the prefix"})
    with server.client(db=0) as client:
        client.set("seg:other", "another system's")


def unlink(server: RedisServer) -> Case:
    """Unlink seg:*."""
    fill(server)

    def done(before: dict[str, Any], after: dict[str, Any]) -> bool:
        kept = {key: value for key, value in before[f"db{DB}"].items() if not key.startswith("seg:")}
        return bool(after == {**before, f"db{DB}": kept})

    names = (
        "*",
        "",
        "session:",
        "seg",
        "seg:*",
        "seg:\n",
        "seg:;FLUSHALL",
        "../seg:",
        "seg:[a-z]",
        "s" * 300,
    )
    return Case(
        server,
        UnlinkPrefix,
        {"prefix": "seg:", "batch_keys": 100},
        b"UNLINK",
        done,
        (*({"prefix": name} for name in names), {"batch_keys": 0}, {"db": 0}),
        irreversible=True,
        settings={"prefixes": ["seg:"]},
    )


def purge(server: RedisServer) -> Case:
    """Purge memory, on a server that holds little of the memory that it has."""
    fill(server)
    return Case(
        server,
        MemoryPurge,
        {"fragmentation_above_ratio": 1.01, "waste_above_bytes": 1000},
        b"PURGE",
        lambda before, after: after == {**before, "purges": before["purges"] + 1},
        (
            {"fragmentation_above_ratio": 0.5},
            {"fragmentation_above_ratio": "nan"},
            {"waste_above_bytes": -1},
            {"db": 0},
        ),
    )


def bgsave(server: RedisServer) -> Case:
    """Write a snapshot."""
    fill(server)
    return Case(
        server,
        BackgroundSave,
        {"wait_seconds": 30},
        b"BGSAVE",
        lambda before, after: after == {**before, "saves": before["saves"] + 1},
        ({"wait_seconds": 0}, {"wait_seconds": 1e9}, {"min_keys": -1}, {"dir": "/etc"}, {"schedule": "yes"}),
    )


def flush(server: RedisServer) -> Case:
    """Flush a database that is declared dedicated."""
    fill(server)
    return Case(
        server,
        FlushDb,
        {"max_keys": 1000},
        b"FLUSHDB",
        lambda before, after: after == {**before, f"db{DB}": {}},
        ({"max_keys": 0}, {"max_keys": 10}, {"max_keys": "all"}, {"db": 0}, {"dedicated": True}),
        irreversible=True,
        settings={"dedicated": True},
    )


def slowlog(server: RedisServer) -> Case:
    """Capture the slow log, of a server that logs everything."""
    fill(server, keys=5)
    with server.client(db=DB) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.set("session:1", "alice's secret", ex=60)
        client.config_set("slowlog-log-slower-than", -1)
    return Case(
        server,
        SlowLog,
        {"entries": 10},
        b"SLOWLOG GET",
        lambda before, after: after == before,
        (
            {"entries": 0},
            {"entries": 10**9},
            {"max_bytes": 1},
            {"max_bytes": 10**12},
            {"path": "/etc/passwd"},
        ),
        reads=True,
    )


def diagnose(server: RedisServer) -> Case:
    """Capture what Redis says of itself."""
    fill(server, keys=5)
    return Case(
        server,
        Diagnose,
        {},
        b"CONFIG GET",
        lambda before, after: after == before,
        ({"pattern": "*"}, {"settings": ["requirepass"]}, {"connection": None}),
        reads=True,
    )


MAKERS: Mapping[str, Callable[[RedisServer], Case]] = {
    "redis.unlink_prefix": unlink,
    "redis.memory_purge": purge,
    "redis.bgsave": bgsave,
    "redis.flush_db": flush,
    "redis.slowlog": slowlog,
    "redis.diagnose": diagnose,
}


def password_file(folder: Path, password: str) -> Path:
    """A file with a password, as an operator writes it: with a newline at its end."""
    path = folder / "redis-password"
    path.write_text(f"{password}\n")
    return path


@asynccontextmanager
async def acting(case: Case, connection: RedisConnection | None = None) -> AsyncIterator[Any]:
    """The action on that connection, closed at the end."""
    action = case.action(connection or case.connection())
    try:
        yield action
    finally:
        await action.close()


async def planned(action: Any, case: Case, **more: Any) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    params = case.parameters(**more)
    effects = action.plan(params, await action.observe(params))
    assert len(effects) == 1
    return Effect(**json.loads(json.dumps(asdict(effects[0]))))


def acted(case: Case, result: Result) -> bool:
    """Whether the result says what was done: a change, or evidence where it only reads."""
    return (not result.changed and bool(result.evidence)) if case.reads else result.changed
