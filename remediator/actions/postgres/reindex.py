"""postgres.reindex_concurrently: rebuild the indexes that are fragmented, one at a time, while all goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres.base import PostgresAction, identifier, must_hold, quoted
from remediator.actions.postgres.connection import Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.indexes import Index, SeenIndexes, look, measure, refuse_building
from remediator.actions.postgres.session import Session, changing, looking, owner, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import (
    ActionError,
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

HEADROOM = 1.5
"""How far the indexes may grow between the plan and its application before it counts as drift. Ours."""

_SLACK_BYTES = 16 * 1024 * 1024


class ReindexParams(BaseModel):
    """Parameters of `postgres.reindex_concurrently`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    table: Table = Field(description="such as public.events; the connection must allow it")
    fragmentation_above_ratio: float = Field(
        default=0.3, gt=0, lt=1, description="indexes at or below it are left alone"
    )
    min_index_bytes: int = Field(
        default=8 * 1024 * 1024, ge=0, le=2**50, description="smaller indexes are not worth it"
    )
    max_indexes: int = Field(default=10, ge=1, le=100, description="so many at once, the worst first")


class ReindexConcurrently(PostgresAction):
    """REINDEX INDEX CONCURRENTLY where the fragmentation is above a limit, and drop what an earlier one left."""

    kind: ClassVar[str] = "postgres.reindex_concurrently"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = ReindexParams

    async def observe(self, params: ReindexParams) -> SeenIndexes:
        """Measure each B-tree index that is large enough; that reads the whole of it."""
        settings = self._connection
        settings.check_table(params.table)
        async with session(settings, seconds=settings.maintenance_timeout_seconds) as link:
            with looking():
                return await measure(link, settings, await look(link, params.table), params.min_index_bytes)

    def plan(self, params: ReindexParams, seen: SeenIndexes) -> tuple[Effect, ...]:
        """One effect on all the indexes that are chosen."""
        refuse_building(seen, params.table)
        chosen = _chosen(params, seen.indexes.values())
        leftovers = seen.leftovers
        if not chosen and not leftovers:
            raise NothingSelected(
                f"no index of {params.table} is above {params.fragmentation_above_ratio:.0%} ({seen.measured})"
            )
        size = sum(index.bytes for index in chosen)
        told = [f"{index.name} ({index.fragmentation_ratio:.0%} {seen.measured})" for index in chosen]
        parts = [f"REINDEX CONCURRENTLY {', '.join(told)}, {figure('bytes', size)}"] if told else []
        if leftovers:
            parts.append(f"DROP the invalid {', '.join(index.name for index in leftovers)}")
        if seen.invalid:
            parts.append(f"not touched, though invalid: {', '.join(seen.invalid)}")
        return (
            Effect(
                action=self.kind,
                subject=self._subject(f"indexes of {params.table}"),
                params=params.model_dump(mode="json"),
                summary="; ".join(parts),
                before={
                    "database": seen.database,
                    "table": seen.table,
                    "indexes": {index.name: index.oid for index in chosen},
                    "leftovers": {index.name: index.oid for index in leftovers},
                },
                figures={"indexes": len(chosen), "leftovers": len(leftovers), "bytes": size},
                at_most={"bytes": round(size * HEADROOM) + _SLACK_BYTES},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Drop the leftovers, then rebuild index by index; one that has another oid was rebuilt already."""
        params = ReindexParams.model_validate(effect.params)
        settings = self._connection
        settings.check_table(params.table)
        done: list[str] = []
        try:
            async with session(
                settings, role=owner(settings), writes=True, seconds=settings.maintenance_timeout_seconds
            ) as link:
                with looking():
                    seen = await look(link, params.table)
                refuse_building(seen, params.table)
                todo = _todo(effect, seen)
                for index in _ours(effect, seen.leftovers):
                    await _drop(link, index.name)
                    done.append(f"dropped {index.name}")
                for index in todo:
                    await _rebuild(link, params.table, index)
                    done.append(f"rebuilt {index.name}")
                with looking():
                    after = await look(link, params.table)
        except ActionError as error:
            if done:
                raise OutcomeUnknown(f"{error}; by then: {', '.join(done)}") from error
            raise
        if not done:
            return Result(f"the indexes of {params.table} were rebuilt since it was planned", changed=False)
        sizes = {
            index.name: {"bytes_before": index.bytes, "bytes": after.indexes[index.name].bytes}
            for index in todo
            if index.name in after.indexes
        }
        return Result(", ".join(done), evidence={"reindexed": sizes})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: a rebuilt index holds the same entries")

    def progress(self, effect: Effect, seen: SeenIndexes) -> Progress:
        """Done where all have another oid and nothing is left over; otherwise going on is the same as starting."""
        if seen.building:
            return Progress.UNCLEAR
        try:
            left = _todo(effect, seen)
        except Drifted:
            return Progress.UNCLEAR
        return Progress.UNTOUCHED if left or _ours(effect, seen.leftovers) else Progress.DONE

    def permissions(self, params: ReindexParams) -> Permissions:
        """Membership in the owner of the table, and what measuring with pgstattuple needs."""
        schema = f"USAGE ON SCHEMA {quoted(self._connection.extension_schema)}"
        return self._rights(schema, "pg_stat_scan_tables", owner=True)


def _chosen(params: ReindexParams, indexes: Iterable[Index]) -> list[Index]:
    above = [
        index
        for index in indexes
        if index.fragmentation_ratio is not None
        and index.fragmentation_ratio > params.fragmentation_above_ratio
    ]
    above.sort(key=lambda index: (-(index.fragmentation_ratio or 0), index.name))
    return above[: params.max_indexes]


def _todo(effect: Effect, seen: SeenIndexes) -> list[Index]:
    """The planned indexes that were not rebuilt since. Raises Drifted where they are gone, or too large."""
    must_hold(effect.subject, effect.before, {"database": seen.database, "table": seen.table})
    planned = effect.before["indexes"]
    gone = [name for name in planned if name not in seen.indexes or not seen.indexes[name].valid]
    if gone:
        raise Drifted(f"{effect.subject}: {', '.join(gone)} is gone, or not valid")
    size, most = sum(seen.indexes[name].bytes for name in planned), effect.at_most["bytes"]
    if size > most:
        raise Drifted(
            f"{effect.subject}: {figure('bytes', size)} are more than the approved {figure('bytes', most)}"
        )
    return [seen.indexes[name] for name, oid in planned.items() if seen.indexes[name].oid == oid]


def _ours(effect: Effect, leftovers: Iterable[Index]) -> list[Index]:
    """The planned leftovers, and those that an interrupted apply of this very effect made."""
    planned = effect.before["leftovers"]
    stems = tuple(f"{name}_cc" for name in effect.before["indexes"])
    return [
        index for index in leftovers if planned.get(index.name) == index.oid or index.name.startswith(stems)
    ]


async def _drop(link: Session, name: str) -> None:
    with changing(f"DROP INDEX {name}"):
        await link.run(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(identifier(name)))


async def _rebuild(link: Session, table: str, index: Index) -> None:
    """Rebuild one; where the server gives up half-way, what it made so far is dropped again."""
    try:
        with changing(f"REINDEX {index.name}"):
            await link.run(sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(identifier(index.name)))
    except (TemporaryFailure, PermanentFailure) as error:
        try:
            with looking():
                after = await look(link, table)
            for left in after.leftovers:
                if left.name.startswith(f"{index.name}_cc"):
                    await _drop(link, left.name)
        except ActionError as fault:
            raise OutcomeUnknown(f"{error}; its half-made index is still there: {fault}") from error
        raise
