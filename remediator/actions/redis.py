"""Redis: unlink the keys under one prefix.

It never runs FLUSHDB on a shared database, and never reads or deletes a key outside the prefixes that the
connection allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from redis import exceptions
from redis.asyncio import Redis

from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused, TemporaryFailure
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:_./{}-]{1,200}$")]
"""A key prefix without any character that Redis reads as a pattern."""

HEADROOM = 1.25
"""How far a live cache may grow between the plan and its application before it counts as drift. Ours."""

_SCAN_COUNT = 1000
_SAMPLED_KEYS = 100


class RedisConnection(BaseModel):
    """One Redis database. `prefixes` are the only keys that may be touched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["redis"]
    url: str = Field(
        description="redis:// or rediss:// or unix://, with the database number, without a password"
    )
    username: str | None = None
    password_file: Path | None = None
    prefixes: tuple[Prefix, ...] = Field(default=(), description="prefixes that may be unlinked")
    dedicated: bool = Field(default=False, description="whether the whole database is a cache of this system")
    timeout_seconds: float = Field(default=5, gt=0, le=60)

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str) -> str:
        if "@" in url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("the URL holds a user or a password; use username and password_file")
        return url


class UnlinkPrefixParams(BaseModel):
    """Parameters of `redis.unlink_prefix`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    prefix: Prefix
    batch_keys: int = Field(default=500, ge=1, le=10_000, description="keys per UNLINK")


@dataclass(frozen=True, slots=True)
class Keys:
    """What stands under a prefix: how many keys, and about how many bytes (from a sample)."""

    server: str
    db: int
    keys: int
    bytes: int


class UnlinkPrefix:
    """Count the keys under a prefix with SCAN, and UNLINK them in batches."""

    kind: ClassVar[str] = "redis.unlink_prefix"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = UnlinkPrefixParams
    Connection: ClassVar[type[BaseModel]] = RedisConnection

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        password = connection.password_file.read_text().rstrip("\n") if connection.password_file else None
        self._redis: Redis = Redis.from_url(
            connection.url,
            username=connection.username,
            password=password,
            socket_timeout=connection.timeout_seconds,
            socket_connect_timeout=connection.timeout_seconds,
        )

    async def observe(self, params: UnlinkPrefixParams) -> Keys:
        """Count, and weigh a sample."""
        self._check(params.prefix)
        try:
            server = await self._server()
            keys, weighed, weight = 0, 0, 0
            async for key in self._redis.scan_iter(match=f"{params.prefix}*", count=_SCAN_COUNT):
                keys += 1
                if weighed < _SAMPLED_KEYS:
                    weight += await self._redis.memory_usage(key) or 0
                    weighed += 1
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise TemporaryFailure(f"redis does not answer: {error}") from error
        bytes_ = round(weight / weighed * keys) if weighed else 0
        return Keys(server, self._db(), keys, bytes_)

    def plan(self, params: UnlinkPrefixParams, seen: Keys) -> tuple[Effect, ...]:
        """One effect: all keys under the prefix go."""
        if seen.keys == 0:
            raise NothingSelected(f"there is no key under {params.prefix} in db {seen.db}")
        summary = f"UNLINK {seen.keys:,} keys under {params.prefix} (about {figure('bytes', seen.bytes)}) in db {seen.db}"
        return (
            Effect(
                action=self.kind,
                subject=f"redis {self._connection.url} keys {params.prefix}*",
                params=params.model_dump(mode="json"),
                summary=summary,
                before={"server": seen.server, "db": seen.db},
                figures={"keys": seen.keys, "bytes": seen.bytes},
                at_most={"keys": _bound(seen.keys)},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """One SCAN pass, unlinking as it goes, and never more keys than were approved."""
        params = UnlinkPrefixParams.model_validate(effect.params)
        self._check(params.prefix)
        bound, gone = int(effect.at_most["keys"]), 0
        try:
            if await self._server() != effect.before["server"]:
                raise Drifted("the Redis server has restarted or is another one than was planned on")
            batch: list[Any] = []
            async for key in self._redis.scan_iter(match=f"{params.prefix}*", count=_SCAN_COUNT):
                batch.append(key)
                if len(batch) == min(params.batch_keys, bound - gone):
                    gone += await self._redis.unlink(*batch)
                    batch.clear()
                if gone >= bound:
                    break
            if batch:
                gone += await self._redis.unlink(*batch)
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise OutcomeUnknown(f"redis stopped answering after {gone:,} keys: {error}") from error
        return Result(
            f"unlinked {gone:,} keys under {params.prefix}", changed=gone > 0, evidence={"keys": gone}
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: the entries are computed again on use."""
        raise Refused("unlinked keys cannot be brought back; they are computed again on use")

    def progress(self, effect: Effect, seen: Keys) -> Progress:
        """Done where no key is left; otherwise going on is the same as starting."""
        if seen.keys == 0:
            return Progress.DONE
        same = seen.server == effect.before["server"] and seen.keys <= effect.at_most["keys"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: UnlinkPrefixParams) -> Permissions:
        """Reading and unlinking under the prefix, and nothing else."""
        return Permissions(
            redis=("+scan", "+unlink", "+memory|usage", "+info", "+select", f"~{params.prefix}*")
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()

    def _check(self, prefix: str) -> None:
        if not any(prefix.startswith(allowed) for allowed in self._connection.prefixes):
            allowed = ", ".join(self._connection.prefixes) or "none"
            raise Refused(f"the prefix {prefix} is outside those that the connection allows ({allowed})")

    async def _server(self) -> str:
        info = await self._redis.info("server")
        if info.get("redis_mode") == "cluster":
            raise Refused("this is a Redis cluster; a prefix lives on many nodes and this action reads one")
        return str(info["run_id"])

    def _db(self) -> int:
        return int(self._redis.connection_pool.connection_kwargs.get("db") or 0)


def _bound(keys: int) -> int:
    return math.ceil(keys * HEADROOM) + 100

