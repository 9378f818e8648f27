"""postgres.diagnose: whether PostgreSQL answers, who is connected and what waits; it only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres.base import PostgresAction, database, must_hold
from remediator.actions.postgres.probe import State, probe
from remediator.actions.postgres.session import Session, looking, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import PermanentFailure, Refused, TemporaryFailure
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

FULL_RATIO = 0.8
"""The share of max_connections from which it is worth telling. Ours."""

LONG_SECONDS = 300.0
"""A transaction older than this is worth telling. Ours."""

FREEZE_TRANSACTIONS = 1_000_000_000
"""Half of what PostgreSQL can count before it stops taking writes."""

_SERVER = b"""
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS uptime_seconds,
       pg_postmaster_start_time()::text AS started,
       current_setting('max_connections')::int AS max_connections,
       pg_database_size(d.oid) AS database_bytes, age(d.datfrozenxid)::bigint AS unfrozen_transactions,
       s.deadlocks, s.temp_bytes,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
FROM pg_database AS d LEFT JOIN pg_stat_database AS s ON s.datid = d.oid
WHERE d.datname = current_database()
"""
_SESSIONS = b"""
SELECT count(*) AS connections,
       count(*) FILTER (WHERE state = 'active') AS active,
       count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction,
       count(*) FILTER (WHERE cardinality(pg_blocking_pids(pid)) > 0) AS blocked,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 AS oldest_transaction_seconds,
       coalesce(max(extract(epoch FROM clock_timestamp() - state_change))
                FILTER (WHERE state LIKE 'idle in transaction%'), 0)::float8 AS oldest_idle_seconds
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_BY_ROLE = b"""
SELECT coalesce(usename, '') AS role, coalesce(state, '') AS state, count(*) AS sessions
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20
"""
# Never the text of a query: it may hold what people typed.
_OLDEST = b"""
SELECT pid, coalesce(usename, '') AS role, left(application_name, 64) AS application, coalesce(state, '') AS state,
       coalesce(wait_event_type, '') AS waits_for, pg_blocking_pids(pid) AS blocked_by,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_seconds
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT %(sessions)s
"""
_DEAD = b"""
SELECT schemaname || '.' || relname AS table, n_dead_tup AS dead_rows, n_live_tup AS live_rows,
       greatest(last_vacuum, last_autovacuum)::text AS last_vacuum
FROM pg_stat_user_tables WHERE n_dead_tup > 10000 ORDER BY n_dead_tup DESC LIMIT 10
"""


class DiagnosePostgresParams(BaseModel):
    """Parameters of `postgres.diagnose`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    sessions: int = Field(default=10, ge=1, le=100, description="so many of the oldest transactions are kept")


@dataclass(frozen=True, slots=True)
class SeenServer:
    """What was seen. `started` is empty where we could not connect; then `findings` says why."""

    database: str = ""
    started: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """All findings in one line."""
        return "; ".join(self.findings) or "nothing stands out"


class DiagnosePostgres(PostgresAction):
    """Capture whether it answers, its sessions, locks and tables in need of VACUUM as evidence; change nothing."""

    kind: ClassVar[str] = "postgres.diagnose"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = DiagnosePostgresParams

    async def observe(self, params: DiagnosePostgresParams) -> SeenServer:
        """Look. That it does not answer, or is full, is a finding and no failure."""
        state = await probe(self._connection)
        facts: dict[str, Any] = {"state": state.value}
        if state is not State.TAKES:
            return SeenServer(facts=facts, findings=(state.value,))
        try:
            async with session(self._connection) as link:
                with looking():
                    return await _look(link, params, facts)
        except TemporaryFailure as error:
            return SeenServer(facts=facts, findings=(f"it answered, but: {error}",))

    def plan(self, params: DiagnosePostgresParams, seen: SeenServer) -> tuple[Effect, ...]:
        """One effect, which reads."""
        return (
            Effect(
                action=self.kind,
                subject=self._subject(),
                params=params.model_dump(mode="json"),
                summary=f"capture what {self._subject()} says of itself; nothing is changed. Now: {seen.headline}",
                before={"database": seen.database, "started": seen.started} if seen.started else {},
                figures={"findings": len(seen.findings)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Look again, and keep what is seen. Never `changed`."""
        seen = await self.observe(DiagnosePostgresParams.model_validate(effect.params))
        if effect.before and seen.started:
            must_hold(effect.subject, effect.before, {"database": seen.database, "started": seen.started})
        evidence = {"postgres": {**seen.facts, "findings": list(seen.findings)}}
        return Result(f"{self._subject()}: {seen.headline}", changed=False, evidence=evidence)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: it only reads")

    def progress(self, effect: Effect, seen: SeenServer) -> Progress:
        """Reading again is the same as reading, on the same run of the server."""
        other = effect.before and seen.started and seen.started != effect.before["started"]
        return Progress.UNCLEAR if other else Progress.UNTOUCHED

    def permissions(self, params: DiagnosePostgresParams) -> Permissions:
        """Seeing everybody's sessions."""
        return self._rights("pg_read_all_stats")


async def _look(link: Session, params: DiagnosePostgresParams, facts: dict[str, Any]) -> SeenServer:
    server = await link.row(_SERVER)
    if not server.pop("sees_all"):
        raise PermanentFailure("we are no member of pg_read_all_stats, so that others' sessions are hidden")
    facts |= {
        "server": server,
        "sessions": await link.row(_SESSIONS),
        "sessions_by_role": await link.rows(_BY_ROLE),
        "oldest_transactions": await link.rows(_OLDEST, {"sessions": params.sessions}),
        "tables_with_dead_rows": await link.rows(_DEAD),
    }
    return SeenServer(await database(link), server["started"], facts, tuple(findings(facts)))


def findings(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a person should see first, in words."""
    server, sessions = facts["server"], facts["sessions"]
    # Our own session is one more.
    used, most = sessions["connections"] + 1, server["max_connections"]
    if used >= FULL_RATIO * most:
        yield f"{used} of {most} connections are taken"
    if server["standby"]:
        yield "it is a standby: it takes no writes"
    if sessions["blocked"]:
        yield f"{sessions['blocked']} session(s) wait for locks of others"
    if sessions["oldest_idle_seconds"] > LONG_SECONDS:
        oldest = figure("seconds", sessions["oldest_idle_seconds"])
        yield f"{sessions['idle_in_transaction']} session(s) are idle in transaction, the oldest for {oldest}"
    if sessions["oldest_transaction_seconds"] > LONG_SECONDS:
        yield f"the oldest transaction is {figure('seconds', sessions['oldest_transaction_seconds'])} old"
    if server["unfrozen_transactions"] > FREEZE_TRANSACTIONS:
        yield f"{server['unfrozen_transactions']:,} transactions are not frozen: it must be vacuumed before 2.1 billion"
    for table in facts["tables_with_dead_rows"]:
        if table["dead_rows"] > table["live_rows"] * 0.2:
            yield f"{table['table']} has {table['dead_rows']:,} dead rows beside {table['live_rows']:,} live ones"
