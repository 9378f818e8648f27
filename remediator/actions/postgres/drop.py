"""postgres.drop_partition: a detached partition goes for good, after its grace and with its archive verified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres import archive
from remediator.actions.postgres.base import PostgresAction, identifier, must_hold
from remediator.actions.postgres.connection import Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.partitions import Loose, Mark, SeenPartitions, count, look
from remediator.actions.postgres.periods import parse
from remediator.actions.postgres.session import changing, looking, owner, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions


class DropPartitionParams(BaseModel):
    """Parameters of `postgres.drop_partition`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    table: Table = Field(description="the table that it was a partition of; the connection must allow it")
    grace_days: int = Field(
        default=7, ge=1, le=3_650, description="since it was detached; never less than the connection says"
    )


@dataclass(frozen=True, slots=True)
class Detached:
    """A table that we detached, what it holds, and the proof that it was archived."""

    table: Loose
    mark: Mark
    rows: int
    proof: archive.Manifest | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SeenForDrop:
    """The table that it belonged to, and the one whose grace is over, where there is one."""

    partitions: SeenPartitions
    candidate: Detached | None


class DropPartition(PostgresAction):
    """DROP a partition that we detached, when its grace is over and its archive holds exactly its rows."""

    kind: ClassVar[str] = "postgres.drop_partition"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = DropPartitionParams

    async def observe(self, params: DropPartitionParams) -> SeenForDrop:
        """Find the one that was detached first, count its rows, and read the proof."""
        self._check(params)
        settings = self._connection
        async with session(settings, seconds=settings.maintenance_timeout_seconds) as link:
            with looking():
                seen = await look(link, params.table)
                found = _first(params, seen)
                if found is None:
                    return SeenForDrop(seen, None)
                table, mark = found
                proof, problem = None, ""
                try:
                    proof = await archive.proof(link, settings.partitioning(params.table), table.name)
                except Refused as refusal:
                    problem = str(refusal)
                await link.become(owner(settings))
                rows = await count(link, table.name)
        if proof is not None:
            problem = _problem(proof, mark, rows)
        return SeenForDrop(seen, Detached(table, mark, rows, None if problem else proof, problem))

    def plan(self, params: DropPartitionParams, seen: SeenForDrop) -> tuple[Effect, ...]:
        """One effect on one table."""
        found = seen.candidate
        if found is None:
            raise NothingSelected(
                f"nothing was detached from {params.table} more than {params.grace_days} days ago"
            )
        if found.proof is None:
            raise Refused(found.problem)
        return (
            Effect(
                action=self.kind,
                subject=self._subject(f"table {found.table.name}"),
                params=params.model_dump(mode="json"),
                summary=f"DROP {found.table.name} (detached {found.mark.at:%Y-%m-%d}): {found.rows:,} rows, "
                f"{figure('bytes', found.table.bytes)} are lost here; archived at "
                f"{found.proof.location or 'the archive'} (SHA-256 {found.proof.sha256[:12]})",
                before={
                    "database": seen.partitions.database,
                    "parent": seen.partitions.parent,
                    "name": found.table.name,
                    "partition": found.table.oid,
                    "mark": str(found.mark),
                    "rows": found.rows,
                    "archive_sha256": found.proof.sha256,
                },
                after={"dropped": True},
                figures={"rows": found.rows, "bytes": found.table.bytes},
                at_most={"rows": found.rows},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Lock it, count it once more, and drop it in the same transaction."""
        params = DropPartitionParams.model_validate(effect.params)
        self._check(params)
        settings, name = self._connection, effect.before["name"]
        async with session(settings) as as_ourselves:
            with looking():
                seen = await look(as_ourselves, params.table)
                if _gone(effect, params.table, seen):
                    return Result(f"{name} is dropped already", changed=False)
                mark = _planned(effect, params, seen)
                proof = await archive.proof(as_ourselves, settings.partitioning(params.table), name)
        must_hold(effect.subject, effect.before, {"archive_sha256": proof.sha256})
        table = identifier(name)
        async with session(
            settings, role=owner(settings), writes=True, seconds=settings.maintenance_timeout_seconds
        ) as link:
            with changing(f"DROP TABLE {name}"):
                async with link.transaction():
                    await link.run(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
                    _planned(effect, params, await look(link, params.table))
                    rows = await count(link, name)
                    must_hold(effect.subject, effect.before, {"rows": rows})
                    told = _problem(proof, mark, rows)
                    if told:
                        raise Refused(told)
                    await link.run(sql.SQL("DROP TABLE {}").format(table))
        return Result(f"dropped {name}", evidence={"table": name, "rows": rows, "location": proof.location})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: the rows are in the archive only."""
        raise Refused("a dropped partition comes back from its archive only, and that is a person's work")

    def progress(self, effect: Effect, seen: SeenForDrop) -> Progress:
        """Done where there is no such table any more."""
        try:
            if _gone(effect, effect.params["table"], seen.partitions):
                return Progress.DONE
        except Drifted:
            return Progress.UNCLEAR
        table = seen.partitions.loose.get(effect.before["name"])
        same = table is not None and table.oid == effect.before["partition"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: DropPartitionParams) -> Permissions:
        """Membership in the owner of the table, and reading the proof."""
        settings = self._connection.partitioning(params.table)
        rights = self._rights(*archive.rights(settings), owner=True)
        return Permissions(postgres=rights.postgres, other=rights.other, files=archive.files(settings))

    def _check(self, params: DropPartitionParams) -> None:
        least = self._connection.partitioning(params.table).grace_days
        if params.grace_days < least:
            raise Refused(
                f"{params.grace_days} days of grace are fewer than the {least} that the connection asks for"
            )


def _first(params: DropPartitionParams, seen: SeenPartitions) -> tuple[Loose, Mark] | None:
    """The one that was detached first, of those whose grace is over."""
    limit = seen.now - timedelta(days=params.grace_days)
    marked = [(table, table.mark) for table in seen.loose.values()]
    over = [
        (table, mark) for table, mark in marked if mark and mark.parent == params.table and mark.at < limit
    ]
    return min(over, key=lambda one: one[1].at) if over else None


def _gone(effect: Effect, table: Table, seen: SeenPartitions) -> bool:
    must_hold(effect.subject, effect.before, {"database": seen.database, "parent": seen.parent})
    name = effect.before["name"]
    if not name.startswith(f"{table}_"):
        raise Refused(f"{name} has not the name of a partition of {table}")
    return name not in seen.loose and name not in seen.partitions


def _planned(effect: Effect, params: DropPartitionParams, seen: SeenPartitions) -> Mark:
    """The mark of the planned table. Raises Drifted where it is another, attached again, or no longer marked."""
    name = effect.before["name"]
    table = seen.loose.get(name)
    if table is None:
        raise Drifted(f"{name} is no detached table any more")
    mark = table.mark
    must_hold(
        effect.subject,
        effect.before,
        {"partition": table.oid, "mark": str(mark) if mark is not None else None},
    )
    if mark is None or mark.parent != params.table:
        raise Drifted(f"{name} was not detached from {params.table} by us")
    if mark.at >= seen.now - timedelta(days=params.grace_days):
        raise Drifted(f"{name}: its grace is not over")
    return mark


def _problem(proof: archive.Manifest, mark: Mark, rows: int) -> str:
    try:
        upper = parse(mark.bounds).upper
    except ValueError as error:
        raise PermanentFailure(f"the mark of {proof.partition} tells no bounds: {error}") from error
    return archive.problem(proof, upper, rows)
