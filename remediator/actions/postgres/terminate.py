"""postgres.terminate_idle: end transactions that somebody opened and left, which hold back VACUUM and locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres.base import PostgresAction, database, must_hold
from remediator.actions.postgres.session import Session, changing, looking, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.pipeline.ports import Permissions

# Nobody's but those of a role that the connection names, and never a superuser's, a replication role's, or our own.
_IDLE = b"""
SELECT a.pid, a.backend_start::text || '/' || a.xact_start::text AS run, a.usename AS role,
       left(a.application_name, 64) AS application, host(a.client_addr) AS client,
       a.state, extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS idle_seconds
FROM pg_stat_activity AS a
JOIN pg_roles AS r ON r.oid = a.usesysid
WHERE a.datname = current_database()
  AND a.backend_type = 'client backend'
  AND a.state IN ('idle in transaction', 'idle in transaction (aborted)')
  AND a.state_change < clock_timestamp() - make_interval(secs => %(idle_seconds)s)
  AND a.usename = ANY(%(roles)s::text[])
  AND NOT r.rolsuper AND NOT r.rolreplication
  AND a.usename NOT IN (session_user, current_user)
  AND a.pid <> pg_backend_pid()
"""
_OLDEST_FIRST = _IDLE + b"ORDER BY a.state_change LIMIT %(most)s"
_END = (
    b"SELECT i.pid, pg_terminate_backend(i.pid, 5000) AS ended FROM ("
    + _IDLE
    + (b" AND a.pid = %(pid)s AND a.backend_start::text || '/' || a.xact_start::text = %(run)s) AS i")
)
_SELF = b"""
SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all, pg_postmaster_start_time()::text AS started
"""


class TerminateIdleParams(BaseModel):
    """Parameters of `postgres.terminate_idle`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    idle_seconds: float = Field(
        ge=1, le=604_800, description="only transactions in which nothing was done for longer"
    )
    max_sessions: int = Field(default=5, ge=1, le=100, description="so many at most, those idle longest")


@dataclass(frozen=True, slots=True)
class IdleSession:
    """One session. `run` tells one transaction of one backend from every other."""

    pid: int
    run: str
    role: str
    application: str
    client: str | None
    state: str
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class SeenSessions:
    """The idle ones, longest first. `started` is when this run of the server began."""

    database: str
    started: str
    idle: tuple[IdleSession, ...]


class TerminateIdle(PostgresAction):
    """End sessions that are idle in a transaction for too long; what they had not committed is rolled back."""

    kind: ClassVar[str] = "postgres.terminate_idle"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = TerminateIdleParams

    async def observe(self, params: TerminateIdleParams) -> SeenSessions:
        """Read pg_stat_activity."""
        self._check()
        async with session(self._connection) as link:
            with looking():
                return await self._look(link, params)

    def plan(self, params: TerminateIdleParams, seen: SeenSessions) -> tuple[Effect, ...]:
        """One effect on exactly the transactions that were seen."""
        if not seen.idle:
            raise NothingSelected(f"no transaction is idle for more than {params.idle_seconds:g} s")
        told = ", ".join(
            f"{one.role} (pid {one.pid}, {one.application or 'unnamed'}, {one.idle_seconds:,.0f} s)"
            for one in seen.idle
        )
        return (
            Effect(
                action=self.kind,
                subject=self._subject("idle transactions"),
                params=params.model_dump(mode="json"),
                summary=f"end {len(seen.idle)} session(s) idle in transaction: {told}",
                before={"database": seen.database, "started": seen.started},
                after={"ended": {str(one.pid): one.run for one in seen.idle}},
                figures={
                    "sessions": len(seen.idle),
                    "idle_seconds": max(one.idle_seconds for one in seen.idle),
                },
                at_most={"sessions": params.max_sessions},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """End those of the planned transactions that are still idle; the server checks that in the same breath."""
        params = TerminateIdleParams.model_validate(effect.params)
        self._check()
        planned: Mapping[str, str] = effect.after["ended"]
        if len(planned) > min(params.max_sessions, effect.at_most["sessions"]):
            raise Refused(f"{len(planned)} sessions are more than {params.max_sessions}")
        ended: list[str] = []
        try:
            async with session(self._connection, writes=True) as link:
                with looking():
                    seen = await self._look(link, params)
                must_hold(effect.subject, effect.before, {"database": seen.database, "started": seen.started})
                for pid, run in planned.items():
                    with changing(f"the end of session {pid}"):
                        found = await link.rows(_END, {**self._which(params), "pid": int(pid), "run": run})
                    if any(not row["ended"] for row in found):
                        raise OutcomeUnknown(f"session {pid} was told to end and is still there")
                    ended += [pid for _ in found]
        except ActionError as error:
            if ended:
                raise OutcomeUnknown(f"{error}; by then the sessions {', '.join(ended)} had ended") from error
            raise
        if not ended:
            return Result("none of these transactions is idle any more", changed=False)
        return Result(f"ended {len(ended)} session(s): pid {', '.join(ended)}", evidence={"ended": ended})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: what was not committed is rolled back."""
        raise Refused("an ended session cannot be brought back; its client connects again")

    def progress(self, effect: Effect, seen: SeenSessions) -> Progress:
        """Done where none of the planned transactions is there."""
        if (seen.database, seen.started) != (effect.before["database"], effect.before["started"]):
            return Progress.UNCLEAR
        left = {str(one.pid): one.run for one in seen.idle}
        planned = effect.after["ended"].items()
        return Progress.UNTOUCHED if any(left.get(pid) == run for pid, run in planned) else Progress.DONE

    def permissions(self, params: TerminateIdleParams) -> Permissions:
        """Seeing everybody's sessions, and ending those of roles that are no superusers."""
        return self._rights("pg_read_all_stats", "pg_signal_backend")

    def _check(self) -> None:
        if not self._connection.sessions_of:
            raise Refused("the connection names no role whose sessions may be ended")

    def _which(self, params: TerminateIdleParams) -> dict[str, Any]:
        return {"idle_seconds": params.idle_seconds, "roles": list(self._connection.sessions_of)}

    async def _look(self, link: Session, params: TerminateIdleParams) -> SeenSessions:
        ours = await link.row(_SELF)
        if not ours["sees_all"]:
            # Without it the state of others' sessions is hidden, and nothing would seem to be idle.
            raise PermanentFailure(
                "we are no member of pg_read_all_stats, so that others' sessions are hidden"
            )
        rows = await link.rows(_OLDEST_FIRST, {**self._which(params), "most": params.max_sessions})
        return SeenSessions(await database(link), ours["started"], tuple(IdleSession(**row) for row in rows))
