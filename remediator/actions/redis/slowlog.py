"""redis.slowlog: keep the slow log as evidence; it reads, and hides what the commands carried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.redis.connection import RedisAction, looking, same_server
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.redaction import Redactor

_KEY_CHARACTERS = 64
_SUBCOMMANDS = frozenset(
    [
        "ACL",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "CONFIG",
        "DEBUG",
        "FUNCTION",
        "LATENCY",
        "MEMORY",
        "MODULE",
        "OBJECT",
        "PUBSUB",
        "SCRIPT",
        "SLOWLOG",
        "XGROUP",
        "XINFO",
    ]
)
_KEYLESS = frozenset(
    {"AUTH", "ECHO", "EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "HELLO", "MIGRATE", "PUBLISH"}
)


class SlowLogParams(BaseModel):
    """Parameters of `redis.slowlog`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    entries: int = Field(default=10, ge=1, le=1000, description="how many of the newest are kept")
    max_bytes: int = Field(
        default=65_536, ge=1024, le=1_048_576, description="of evidence, as JSON; the oldest go"
    )


@dataclass(frozen=True, slots=True)
class LogLength:
    """How many entries the slow log holds."""

    server: str
    entries: int


class SlowLog(RedisAction):
    """Capture SLOWLOG GET as evidence: command, key and duration, without the values. It changes nothing."""

    kind: ClassVar[str] = "redis.slowlog"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SlowLogParams

    async def observe(self, params: SlowLogParams) -> LogLength:
        """Count."""
        with looking():
            return LogLength(await self._run_id(), int(await self._redis.slowlog_len()))

    def plan(self, params: SlowLogParams, seen: LogLength) -> tuple[Effect, ...]:
        """One effect, which reads."""
        if seen.entries == 0:
            raise NothingSelected("the slow log is empty")
        kept = min(seen.entries, params.entries)
        return (
            Effect(
                action=self.kind,
                subject=f"{self._subject} slow log",
                params=params.model_dump(mode="json"),
                summary=f"capture the newest {kept:,} of {seen.entries:,} slow-log entries, without their values "
                f"(at most {figure('bytes', params.max_bytes)}); nothing is changed",
                before={"server": seen.server},
                figures={"entries": kept},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Read and hide. Never `changed`."""
        params = SlowLogParams.model_validate(effect.params)
        with looking():
            same_server(effect.before, await self._run_id())
            found = await self._redis.slowlog_get(params.entries)
        told = [entry(one) for one in found]
        kept = bounded(told, params.max_bytes)
        summary = f"captured {len(kept):,} slow-log entries"
        if len(kept) < len(told):
            summary += f"; {len(told) - len(kept):,} older ones did not fit into the bound"
        return Result(summary, changed=False, evidence={"slowlog": kept})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: it only reads")

    def progress(self, effect: Effect, seen: LogLength) -> Progress:
        """Reading again is the same as reading, on the same run of the server."""
        return Progress.UNTOUCHED if seen.server == effect.before["server"] else Progress.UNCLEAR

    def permissions(self, params: SlowLogParams) -> Permissions:
        """Reading the slow log; no key."""
        return Permissions(redis=self._rights("+info", "+slowlog|len", "+slowlog|get"))


def entry(raw: Any) -> dict[str, Any]:
    """One entry of the slow log, for people: what ran, on which key and for how long, but not with what."""
    words = [_text(word) for word in _words(raw)]
    started: int = raw["start_time"]
    return {
        "id": int(raw["id"]),
        "at": datetime.fromtimestamp(started, UTC).isoformat(),
        "duration_seconds": raw["duration"] / 1e6,
        "command": Redactor()(" ".join(shape(words))),
        "client": _text(raw.get("client_address", "")),
    }


def shape(words: Sequence[str]) -> list[str]:
    """The command, its subcommand or key, and how many arguments follow it."""
    if not words:
        return []
    name = words[0].upper()
    shown = [name]
    if len(words) > 1 and name not in _KEYLESS:
        second = words[1].upper() if name in _SUBCOMMANDS else words[1]
        shown.append(second[:_KEY_CHARACTERS] + ("..." if len(second) > _KEY_CHARACTERS else ""))
    hidden = len(words) - len(shown)
    return [*shown, f"<{hidden} more>"] if hidden else shown


def bounded(entries: Sequence[dict[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
    """The first entries whose JSON fits into so many bytes."""
    kept: list[dict[str, Any]] = []
    size = 2
    for one in entries:
        size += len(json.dumps(one).encode()) + 2
        if size > max_bytes:
            break
        kept.append(one)
    return kept


def _words(raw: Any) -> list[bytes | str]:
    command = raw["command"]
    return (
        list(command)
        if isinstance(command, (list, tuple))
        else command.split(b" " if isinstance(command, bytes) else " ")
    )


def _text(word: bytes | str) -> str:
    return word.decode("utf-8", errors="replace") if isinstance(word, bytes) else str(word)
