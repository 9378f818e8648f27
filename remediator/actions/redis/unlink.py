"""redis.unlink_prefix: the keys under one prefix go, in batches, and never more than were approved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.redis.connection import Prefix, RedisAction, changing, looking, same_server
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, NothingSelected, OutcomeUnknown, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

HEADROOM = 1.25
"""How far a live cache may grow between the plan and its application before it counts as drift. Ours."""

_SCAN_COUNT = 1000
_SAMPLED_KEYS = 100


class UnlinkPrefixParams(BaseModel):
    """Parameters of `redis.unlink_prefix`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    prefix: Prefix = Field(description="every key that begins with it goes; the connection must allow it")
    batch_keys: int = Field(default=500, ge=1, le=10_000, description="keys per UNLINK")


@dataclass(frozen=True, slots=True)
class Keys:
    """What stands under a prefix: how many keys, and about how many bytes (from a sample)."""

    server: str
    db: int
    keys: int
    bytes: int


class UnlinkPrefix(RedisAction):
    """Count the keys under a prefix with SCAN, and UNLINK them in batches."""

    kind: ClassVar[str] = "redis.unlink_prefix"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = UnlinkPrefixParams

    async def observe(self, params: UnlinkPrefixParams) -> Keys:
        """Count, and weigh a sample."""
        self._check(params.prefix)
        keys, weighed, weight = 0, 0, 0
        with looking():
            server = await self._run_id()
            async for key in self._redis.scan_iter(match=f"{params.prefix}*", count=_SCAN_COUNT):
                keys += 1
                if weighed < _SAMPLED_KEYS:
                    weight += await self._redis.memory_usage(key) or 0
                    weighed += 1
        bytes_ = round(weight / weighed * keys) if weighed else 0
        return Keys(server, self._db, keys, bytes_)

    def plan(self, params: UnlinkPrefixParams, seen: Keys) -> tuple[Effect, ...]:
        """One effect: all keys under the prefix go."""
        if seen.keys == 0:
            raise NothingSelected(f"there is no key under {params.prefix} in db {seen.db}")
        size = figure("bytes", seen.bytes)
        return (
            Effect(
                action=self.kind,
                subject=f"{self._subject} keys {params.prefix}*",
                params=params.model_dump(mode="json"),
                summary=f"UNLINK {seen.keys:,} keys under {params.prefix} (about {size}) in db {seen.db}",
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
        with looking():
            same_server(effect.before, await self._run_id())
        bound, gone = int(effect.at_most["keys"]), 0
        try:
            with changing("UNLINK"):
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
        except ActionError as error:
            if gone:
                raise OutcomeUnknown(f"{error}; {gone:,} keys were gone by then") from error
            raise
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
            redis=self._rights("+scan", "+unlink", "+memory|usage", "+info", f"~{params.prefix}*")
        )

    def _check(self, prefix: str) -> None:
        if not any(prefix.startswith(allowed) for allowed in self._connection.prefixes):
            allowed = ", ".join(self._connection.prefixes) or "none"
            raise Refused(f"the prefix {prefix} is outside those that the connection allows ({allowed})")


def _bound(keys: int) -> int:
    return math.ceil(keys * HEADROOM) + 100
