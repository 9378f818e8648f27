"""redis.memory_purge: give memory that the allocator holds and nobody uses back to the system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.redis.connection import RedisAction, changing, looking, same_server
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

MIB = 1024 * 1024


class MemoryPurgeParams(BaseModel):
    """Parameters of `redis.memory_purge`. Both limits have to be passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    fragmentation_above_ratio: float = Field(
        default=1.5,
        ge=1,
        le=100,
        description="resident memory over used memory; at or below it nothing is done",
    )
    waste_above_bytes: int = Field(
        default=100 * MIB,
        ge=0,
        le=2**50,
        description="resident less used memory; at or below it nothing is done",
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """What Redis says of its memory. `purges` counts the MEMORY PURGE calls of this run of the server."""

    server: str
    allocator: str
    used_bytes: int
    resident_bytes: int
    purges: int

    @property
    def fragmentation_ratio(self) -> float:
        """Resident memory over used memory."""
        return self.resident_bytes / self.used_bytes if self.used_bytes else 0.0

    @property
    def waste_bytes(self) -> int:
        """Resident memory that holds no data; 0 where part of the data was swapped out."""
        return max(0, self.resident_bytes - self.used_bytes)

    def wasteful(self, params: MemoryPurgeParams) -> bool:
        """Whether both limits are passed."""
        ratio, waste = params.fragmentation_above_ratio, params.waste_above_bytes
        return self.fragmentation_ratio > ratio and self.waste_bytes > waste


class MemoryPurge(RedisAction):
    """Run MEMORY PURGE where the fragmentation is above a limit; no key is touched."""

    kind: ClassVar[str] = "redis.memory_purge"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = MemoryPurgeParams

    async def observe(self, params: MemoryPurgeParams) -> Memory:
        """Read INFO."""
        with looking():
            return await self._memory()

    def plan(self, params: MemoryPurgeParams, seen: Memory) -> tuple[Effect, ...]:
        """One effect, where both limits are passed."""
        told = (
            f"{figure('bytes', seen.resident_bytes)} resident, {figure('bytes', seen.used_bytes)} used, "
            f"fragmentation {seen.fragmentation_ratio:.2f}"
        )
        if not seen.wasteful(params):
            raise NothingSelected(
                f"not above fragmentation {params.fragmentation_above_ratio:g} and "
                f"{figure('bytes', params.waste_above_bytes)} of waste: {told}"
            )
        if not seen.allocator.startswith("jemalloc"):
            raise Refused(
                f"MEMORY PURGE does nothing under the allocator {seen.allocator}; it needs jemalloc"
            )
        return (
            Effect(
                action=self.kind,
                subject=f"{self._subject} memory",
                params=params.model_dump(mode="json"),
                summary=f"MEMORY PURGE of up to {figure('bytes', seen.waste_bytes)} ({told})",
                before={"server": seen.server, "purges": seen.purges},
                figures={
                    "waste_bytes": seen.waste_bytes,
                    "resident_bytes": seen.resident_bytes,
                    "used_bytes": seen.used_bytes,
                },
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Purge, unless that was done, or memory is no longer wasted, since it was planned."""
        params = MemoryPurgeParams.model_validate(effect.params)
        with looking():
            seen = await self._memory()
        same_server(effect.before, seen.server)
        if seen.purges > effect.before["purges"]:
            return Result("memory was purged since it was planned", changed=False)
        if not seen.wasteful(params):
            return Result(f"fragmentation is down to {seen.fragmentation_ratio:.2f} by itself", changed=False)
        with changing("MEMORY PURGE"):
            answer = await self._redis.memory_purge()
        if not answer:
            raise PermanentFailure(f"redis answered MEMORY PURGE with {answer!r}")
        return Result(
            f"purged; {figure('bytes', seen.resident_bytes)} were resident, "
            f"fragmentation was {seen.fragmentation_ratio:.2f}",
            evidence={"resident_bytes_before": seen.resident_bytes, "used_bytes_before": seen.used_bytes},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: MEMORY PURGE keeps all data")

    def progress(self, effect: Effect, seen: Memory) -> Progress:
        """Done where this run of the server has purged since."""
        if seen.server != effect.before["server"]:
            return Progress.UNCLEAR
        return Progress.DONE if seen.purges > effect.before["purges"] else Progress.UNTOUCHED

    def permissions(self, params: MemoryPurgeParams) -> Permissions:
        """INFO and MEMORY PURGE; no key."""
        return Permissions(redis=self._rights("+info", "+memory|purge"))

    async def _memory(self) -> Memory:
        server = await self._run_id()
        memory, calls = await self._info("memory"), await self._info("commandstats")
        return Memory(
            server=server,
            allocator=str(memory["mem_allocator"]),
            used_bytes=int(memory["used_memory"]),
            resident_bytes=int(memory["used_memory_rss"]),
            purges=int(calls.get("cmdstat_memory|purge", {}).get("calls", 0)),
        )
