"""redis.diagnose: what Redis says of itself, for the person who has to decide; it only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from remediator.actions.redis.connection import RedisAction, looking, same_server
from remediator.actions.redis.driver import exceptions
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Refused, TemporaryFailure
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.redaction import Redactor

SETTINGS = (
    "save",
    "appendonly",
    "appendfsync",
    "dir",
    "dbfilename",
    "stop-writes-on-bgsave-error",
    "maxmemory",
    "maxmemory-policy",
)
"""What CONFIG GET is asked for. None of them is a secret."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "server": ("redis_version", "redis_mode", "uptime_in_seconds"),
    "clients": ("connected_clients", "blocked_clients", "maxclients"),
    "memory": (
        "used_memory",
        "used_memory_rss",
        "used_memory_peak",
        "maxmemory",
        "maxmemory_policy",
        "mem_fragmentation_ratio",
        "mem_allocator",
    ),
    "persistence": (
        "loading",
        "loading_loaded_perc",
        "rdb_last_save_time",
        "rdb_changes_since_last_save",
        "rdb_last_bgsave_status",
        "rdb_last_bgsave_time_sec",
        "rdb_bgsave_in_progress",
        "aof_enabled",
        "aof_last_write_status",
        "aof_last_bgrewrite_status",
    ),
    "stats": (
        "total_connections_received",
        "rejected_connections",
        "evicted_keys",
        "expired_keys",
        "keyspace_hits",
        "keyspace_misses",
        "instantaneous_ops_per_sec",
    ),
    "replication": ("role", "connected_slaves", "master_link_status"),
}
"""The fields of INFO that are kept; whatever a newer server adds is not."""

FULL_RATIO = 0.8
"""The share of maxmemory from which a person should plan for more (the documents' 80 %)."""

FRAGMENTED_RATIO = 1.5
WASTE_BYTES = 100 * 1024 * 1024


class DiagnoseParams(BaseModel):
    """Parameters of `redis.diagnose`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str


@dataclass(frozen=True, slots=True)
class Health:
    """What was seen. `server` is empty where nothing answered; then `findings` says so."""

    server: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """All findings in one line."""
        return "; ".join(self.findings) or "nothing stands out"


class Diagnose(RedisAction):
    """Capture INFO, the persistence settings and the key counts as evidence. It changes nothing."""

    kind: ClassVar[str] = "redis.diagnose"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = DiagnoseParams

    async def observe(self, params: DiagnoseParams) -> Health:
        """Read all of it. A server that does not answer, or still loads, is a finding and no failure."""
        try:
            with looking():
                try:
                    return await self._health()
                except exceptions.BusyLoadingError:
                    return Health(findings=("it answers, but is still loading its data from disk",))
        except TemporaryFailure as error:
            return Health(findings=(Redactor()(str(error)),))

    def plan(self, params: DiagnoseParams, seen: Health) -> tuple[Effect, ...]:
        """One effect, which reads."""
        return (
            Effect(
                action=self.kind,
                subject=self._subject,
                params=params.model_dump(mode="json"),
                summary=f"capture what {self._subject} says of itself; nothing is changed. Now: {seen.headline}",
                before={"server": seen.server} if seen.server else {},
                figures={"findings": len(seen.findings)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Look again, and keep what is seen. Never `changed`."""
        seen = await self.observe(DiagnoseParams.model_validate(effect.params))
        if effect.before and seen.server:
            same_server(effect.before, seen.server)
        evidence = {"redis": {**seen.facts, "findings": list(seen.findings)}}
        return Result(f"{self._subject}: {seen.headline}", changed=False, evidence=evidence)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: it only reads")

    def progress(self, effect: Effect, seen: Health) -> Progress:
        """Reading again is the same as reading, on the same run of the server."""
        other = effect.before and seen.server and seen.server != effect.before["server"]
        return Progress.UNCLEAR if other else Progress.UNTOUCHED

    def permissions(self, params: DiagnoseParams) -> Permissions:
        """Reading; no key."""
        return Permissions(redis=self._rights("+info", "+config|get", "+dbsize"))

    async def _health(self) -> Health:
        await self._connect_afresh()
        server = str((await self._info("server"))["run_id"])
        facts: dict[str, Any] = {}
        for section, names in FIELDS.items():
            found = await self._info(section)
            facts[section] = {name: found[name] for name in names if name in found}
        facts["keyspace"] = await self._info("keyspace")
        facts["settings"] = {name: await self._setting(name) for name in SETTINGS}
        facts["keys_in_this_database"] = int(await self._redis.dbsize())
        return Health(server, facts, tuple(findings(facts)))

    async def _setting(self, name: str) -> str:
        found = await self._redis.config_get(name)
        return str(found.get(name) or "")


def findings(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a person should see first, in words."""
    yield from _persistence(facts["persistence"], facts["settings"])
    yield from _memory(facts["memory"], facts["stats"])
    if facts["replication"].get("master_link_status") == "down":
        yield "it is a replica, and the link to its primary is down"
    if facts["stats"].get("rejected_connections"):
        yield f"{facts['stats']['rejected_connections']:,} connections were rejected since it started"


def _persistence(seen: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[str]:
    if seen.get("loading"):
        yield "it is still loading its data from disk"
    if seen.get("rdb_last_bgsave_status") == "err":
        yield "the last snapshot failed: look at free space, the directory's owner and the server's log before another"
        if settings["stop-writes-on-bgsave-error"] == "yes" and settings["save"]:
            yield "and it refuses writes because of that"
    if seen.get("aof_enabled") and "err" in (
        seen.get("aof_last_write_status"),
        seen.get("aof_last_bgrewrite_status"),
    ):
        yield "the append-only file could not be written"
    if not settings["save"] and settings["appendonly"] == "no":
        yield "nothing is persisted: neither snapshots nor an append-only file"


def _memory(seen: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[str]:
    used, most = int(seen["used_memory"]), int(seen.get("maxmemory", 0))
    if most and used >= FULL_RATIO * most:
        yield f"{figure('bytes', used)} of {figure('bytes', most)} memory are used"
    waste = int(seen["used_memory_rss"]) - used
    if used and waste > WASTE_BYTES and waste + used > FRAGMENTED_RATIO * used:
        yield f"{figure('bytes', waste)} of resident memory hold no data (fragmentation)"
    if stats.get("evicted_keys"):
        yield f"{stats['evicted_keys']:,} keys were evicted since it started"
