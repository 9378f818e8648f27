"""postgres.vacuum_analyze: VACUUM and ANALYZE of one table, partition by partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres.base import PostgresAction, database, find_table, identifier, must_hold
from remediator.actions.postgres.connection import Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.session import Session, changing, looking, owner, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

HEADROOM = 1.5
"""How far a table may grow between the plan and its application before it counts as drift. Ours."""

_SLACK_BYTES = 64 * 1024 * 1024

_PARTS = b"""
SELECT n.nspname || '.' || c.relname AS name, coalesce(s.n_dead_tup, 0) AS dead, coalesce(s.n_live_tup, 0) AS live,
       pg_table_size(c.oid) AS bytes, s.last_vacuum::text AS last_vacuum
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
WHERE c.relkind = 'r'
  AND (c.oid = %(oid)s OR c.oid IN (SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass) WHERE isleaf))
ORDER BY 1
"""


class VacuumAnalyzeParams(BaseModel):
    """Parameters of `postgres.vacuum_analyze`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    table: Table = Field(description="such as public.events; the connection must allow it")
    min_dead_ratio: float = Field(
        default=0, ge=0, le=1, description="partitions with a smaller share of dead rows are left alone"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A table, or one partition of it. `last_vacuum` is what the statistics say of a manual VACUUM."""

    name: str
    dead: int
    live: int
    bytes: int
    last_vacuum: str | None

    @property
    def dead_ratio(self) -> float:
        """The share of its rows that are dead."""
        return self.dead / (self.dead + self.live) if self.dead else 0.0


@dataclass(frozen=True, slots=True)
class SeenTable:
    """The table, and the parts that hold its rows."""

    database: str
    oid: int
    partitioned: bool
    parts: Mapping[str, Part]


class VacuumAnalyze(PostgresAction):
    """VACUUM (ANALYZE) a table, or those of its partitions that have enough dead rows; never VACUUM FULL."""

    kind: ClassVar[str] = "postgres.vacuum_analyze"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = VacuumAnalyzeParams

    async def observe(self, params: VacuumAnalyzeParams) -> SeenTable:
        """Read the statistics."""
        self._connection.check_table(params.table)
        async with session(self._connection) as link:
            with looking():
                return await _look(link, params.table)

    def plan(self, params: VacuumAnalyzeParams, seen: SeenTable) -> tuple[Effect, ...]:
        """One effect on all the parts that are chosen."""
        chosen = [part for part in seen.parts.values() if part.dead_ratio >= params.min_dead_ratio]
        if not chosen:
            raise NothingSelected(f"no part of {params.table} has {params.min_dead_ratio:.0%} dead rows")
        dead, size = sum(part.dead for part in chosen), sum(part.bytes for part in chosen)
        where = f" in {len(chosen)} of {len(seen.parts)} partitions" if seen.partitioned else ""
        return (
            Effect(
                action=self.kind,
                subject=self._subject(f"table {params.table}"),
                params=params.model_dump(mode="json"),
                summary=f"VACUUM (ANALYZE) {params.table}: {dead:,} dead rows{where}, {figure('bytes', size)}",
                before={
                    "database": seen.database,
                    "table": seen.oid,
                    "last_vacuums": {part.name: part.last_vacuum for part in chosen},
                },
                figures={"dead_rows": dead, "bytes": size},
                at_most={"bytes": round(size * HEADROOM) + _SLACK_BYTES},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Vacuum each part that was not vacuumed since; the state between two parts is a good one."""
        params = VacuumAnalyzeParams.model_validate(effect.params)
        self._connection.check_table(params.table)
        settings, done = self._connection, list[str]()
        try:
            async with session(
                settings, role=owner(settings), writes=True, seconds=settings.maintenance_timeout_seconds
            ) as link:
                with looking():
                    seen = await _look(link, params.table)
                    todo = _todo(effect, seen)
                for part in todo:
                    with changing(f"VACUUM {part.name}"):
                        await _vacuum(link, part)
                    done.append(part.name)
                if done and seen.partitioned:
                    # Nothing but a manual ANALYZE renews the statistics of the table as a whole.
                    with changing(f"ANALYZE {params.table}"):
                        await link.run(sql.SQL("ANALYZE {}").format(identifier(params.table)))
                with looking():
                    after = await _look(link, params.table)
        except ActionError as error:
            if done:
                raise OutcomeUnknown(f"{error}; {', '.join(done)} were vacuumed by then") from error
            raise
        if not done:
            return Result(f"{params.table} was vacuumed since it was planned", changed=False)
        figures = {
            name: {"dead_rows_before": seen.parts[name].dead, "dead_rows": after.parts[name].dead}
            for name in done
            if name in after.parts
        }
        return Result(f"vacuumed and analysed {', '.join(done)}", evidence={"vacuumed": figures})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: a VACUUM changes no row")

    def progress(self, effect: Effect, seen: SeenTable) -> Progress:
        """Done where every planned part was vacuumed since; otherwise going on is the same as starting."""
        try:
            return Progress.UNTOUCHED if _todo(effect, seen) else Progress.DONE
        except Drifted:
            return Progress.UNCLEAR

    def permissions(self, params: VacuumAnalyzeParams) -> Permissions:
        """Membership in the owner of the table."""
        return self._rights(owner=True)


def _todo(effect: Effect, seen: SeenTable) -> list[Part]:
    """The planned parts that were not vacuumed since. Raises Drifted where they are others, or too large."""
    must_hold(effect.subject, effect.before, {"database": seen.database, "table": seen.oid})
    planned: Mapping[str, str | None] = effect.before["last_vacuums"]
    gone = [name for name in planned if name not in seen.parts]
    if gone:
        raise Drifted(f"{effect.subject}: {', '.join(gone)} is no longer a part of it")
    size, most = sum(seen.parts[name].bytes for name in planned), effect.at_most["bytes"]
    if size > most:
        raise Drifted(
            f"{effect.subject}: {figure('bytes', size)} are more than the approved {figure('bytes', most)}"
        )
    # Statistics are lost in a crash: then the time is gone, and the part is vacuumed (again).
    return [
        seen.parts[name] for name, last in planned.items() if seen.parts[name].last_vacuum in (None, last)
    ]


async def _vacuum(link: Session, part: Part) -> None:
    await link.run(sql.SQL("VACUUM (ANALYZE) {}").format(identifier(part.name)))
    schema, name = part.name.split(".", 1)
    query = b"SELECT last_vacuum::text AS at FROM pg_stat_all_tables WHERE schemaname = %(schema)s AND relname = %(name)s"
    found = await link.row(query, {"schema": schema, "name": name})
    if found["at"] in (None, part.last_vacuum):
        # To who does not own the table the server only whispers a warning, and does nothing.
        raise PermanentFailure(
            f"{part.name} was not vacuumed: {'; '.join(link.notices) or 'postgres does not say why'}"
        )


async def _look(link: Session, table: str) -> SeenTable:
    found = await find_table(link, table)
    parts = [Part(**row) for row in await link.rows(_PARTS, {"oid": found["oid"]})]
    return SeenTable(
        database=await database(link),
        oid=found["oid"],
        partitioned=found["kind"] == "p",
        parts={part.name: part for part in parts},
    )
