"""redis.bgsave: write a snapshot, and wait until it is there or has failed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.redis.connection import RedisAction, changing, looking, same_server
from remediator.actions.redis.driver import exceptions
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import (
    ActionError,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

_POLL_SECONDS = 0.2


class BackgroundSaveParams(BaseModel):
    """Parameters of `redis.bgsave`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    wait_seconds: float = Field(default=300, gt=0, le=3600, description="how long the save may take")
    min_keys: int = Field(
        default=1,
        ge=0,
        description="with fewer keys on the server nothing is saved: the old snapshot is worth more",
    )
    after_failure: bool = Field(
        default=False, description="whether to save although the last save failed; find out why first"
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Redis says of its snapshots. `saved_at` is in Unix seconds; `saves` counts those begun in this run."""

    server: str
    saved_at: int
    saves: int
    saving: bool
    ok: bool
    changes: int
    keys: int
    used_bytes: int

    def newer(self, saved_at: int, saves: int) -> bool:
        """Whether a save has ended well since then; two saves may fall into one second."""
        return self.saved_at > saved_at or (self.saves > saves and self.ok and not self.saving)


class BackgroundSave(RedisAction):
    """BGSAVE, and wait for its result: the snapshot counts only once Redis says that it was written."""

    kind: ClassVar[str] = "redis.bgsave"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = BackgroundSaveParams

    async def observe(self, params: BackgroundSaveParams) -> Snapshot:
        """Read INFO."""
        with looking():
            return await self._snapshot()

    def plan(self, params: BackgroundSaveParams, seen: Snapshot) -> tuple[Effect, ...]:
        """One effect: a snapshot of all databases of this server."""
        if seen.keys < params.min_keys:
            raise NothingSelected(
                f"the server holds {seen.keys:,} keys, fewer than {params.min_keys:,}: "
                "its last snapshot is not overwritten"
            )
        if not seen.ok and not params.after_failure:
            raise Refused("the last save failed: find out why first, another one would fail too")
        return (
            Effect(
                action=self.kind,
                subject=f"{self._subject} snapshot",
                params=params.model_dump(mode="json"),
                summary=f"BGSAVE {seen.keys:,} keys ({figure('bytes', seen.used_bytes)} in memory, "
                f"{seen.changes:,} changes since the last save)",
                before={"server": seen.server, "saved_at": seen.saved_at, "saves": seen.saves},
                figures={"keys": seen.keys, "used_bytes": seen.used_bytes, "changes": seen.changes},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Save, or wait for the save that runs already; until it has ended, or `wait_seconds` are over."""
        params = BackgroundSaveParams.model_validate(effect.params)
        deadline = time.monotonic() + params.wait_seconds
        with looking():
            seen = await self._snapshot()
        same_server(effect.before, seen.server)
        if self._newer(effect, seen):
            return Result("a snapshot was written since it was planned", changed=False)
        if seen.keys < params.min_keys:
            raise Refused(f"the server holds {seen.keys:,} keys now, fewer than {params.min_keys:,}")
        ours = not seen.saving
        if ours:
            await self._begin()
        seen = await self._await_end(deadline)
        same_server(effect.before, seen.server)
        if not self._newer(effect, seen):
            raise PermanentFailure(
                "the save failed; the last snapshot is as it was (the server's log says why)"
            )
        return Result(
            f"saved {seen.keys:,} keys" if ours else "a save that was under way has ended well",
            changed=ours,
            evidence={"saved_at_seconds": seen.saved_at, "keys": seen.keys},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: a snapshot changes no data")

    def progress(self, effect: Effect, seen: Snapshot) -> Progress:
        """Done where a save has ended well since; unclear while one runs."""
        if seen.server != effect.before["server"]:
            return Progress.UNCLEAR
        if self._newer(effect, seen):
            return Progress.DONE
        return Progress.UNCLEAR if seen.saving else Progress.UNTOUCHED

    def permissions(self, params: BackgroundSaveParams) -> Permissions:
        """INFO and BGSAVE; no key."""
        return Permissions(redis=self._rights("+info", "+bgsave"))

    @staticmethod
    def _newer(effect: Effect, seen: Snapshot) -> bool:
        return seen.newer(effect.before["saved_at"], effect.before["saves"])

    async def _begin(self) -> None:
        with changing("BGSAVE"):
            try:
                await self._redis.bgsave(schedule=False)
            except exceptions.ResponseError as error:
                if "in progress" in str(error) or "active" in str(error):
                    # An append-only file is being rewritten, or another save came first.
                    raise TemporaryFailure(f"redis cannot save now: {error}") from error
                raise

    async def _await_end(self, deadline: float) -> Snapshot:
        while True:
            try:
                with looking():
                    seen = await self._snapshot()
            except ActionError as error:
                raise OutcomeUnknown(f"the save was begun, and then: {error}") from error
            if not seen.saving:
                return seen
            if time.monotonic() >= deadline:
                raise OutcomeUnknown("the save still runs, longer than it was allowed to")
            await asyncio.sleep(_POLL_SECONDS)

    async def _snapshot(self) -> Snapshot:
        server = await self._run_id()
        persistence, memory = await self._info("persistence"), await self._info("memory")
        return Snapshot(
            server=server,
            saved_at=int(persistence["rdb_last_save_time"]),
            saves=int(persistence.get("rdb_saves", 0)),
            saving=bool(persistence["rdb_bgsave_in_progress"]),
            ok=persistence["rdb_last_bgsave_status"] == "ok",
            changes=int(persistence["rdb_changes_since_last_save"]),
            keys=sum(int(one["keys"]) for one in (await self._info("keyspace")).values()),
            used_bytes=int(memory["used_memory"]),
        )
