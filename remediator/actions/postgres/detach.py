"""postgres.detach_partition: the oldest partition leaves its table, once it is proved that it was archived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres import archive
from remediator.actions.postgres.base import PostgresAction, identifier, must_hold
from remediator.actions.postgres.connection import Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.partitions import Loose, Mark, Partition, SeenPartitions, count, look
from remediator.actions.postgres.periods import sides
from remediator.actions.postgres.session import Session, changing, looking, owner, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, Refused, TemporaryFailure
from remediator.figures import figure
from remediator.pipeline.ports import Permissions


class DetachPartitionParams(BaseModel):
    """Parameters of `postgres.detach_partition`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    table: Table = Field(description="the partitioned table; the connection must allow it")
    min_age_days: int = Field(
        default=90,
        ge=1,
        le=36_500,
        description="how old the upper bound must be; never less than the connection says",
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """The oldest partition that is old enough, what it holds, and the proof that it was archived."""

    partition: Partition
    rows: int
    proof: archive.Manifest | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SeenForDetach:
    """The table, and its candidate, where it has one."""

    partitions: SeenPartitions
    candidate: Candidate | None


class DetachPartition(PostgresAction):
    """DETACH CONCURRENTLY the oldest archived partition; its rows stay, in a table of their own."""

    kind: ClassVar[str] = "postgres.detach_partition"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = DetachPartitionParams

    async def observe(self, params: DetachPartitionParams) -> SeenForDetach:
        """Find the candidate, count its rows, and read the proof."""
        self._check(params)
        settings = self._connection
        async with session(settings, seconds=settings.maintenance_timeout_seconds) as link:
            with looking():
                seen = await look(link, params.table)
                oldest = _oldest(params, seen)
                return SeenForDetach(seen, await self._candidate(link, params, oldest) if oldest else None)

    def plan(self, params: DetachPartitionParams, seen: SeenForDetach) -> tuple[Effect, ...]:
        """One effect on one partition."""
        found = seen.candidate
        if found is None:
            raise NothingSelected(
                f"no partition of {params.table} ended more than {params.min_age_days} days ago"
            )
        if seen.partitions.has_default:
            raise Refused(
                f"{params.table} has a default partition: nothing can be detached from it concurrently"
            )
        if found.proof is None:
            raise Refused(found.problem)
        part = found.partition
        return (
            Effect(
                action=self.kind,
                subject=self._subject(f"partition {part.name}"),
                params=params.model_dump(mode="json"),
                summary=f"DETACH {part.name} from {params.table}: {found.rows:,} rows, {figure('bytes', part.bytes)}, "
                f"archived and verified {found.proof.verified_at:%Y-%m-%d} (SHA-256 {found.proof.sha256[:12]})",
                before={
                    "database": seen.partitions.database,
                    "parent": seen.partitions.parent,
                    "name": part.name,
                    "partition": part.oid,
                    "bounds": part.bounds,
                    "rows": found.rows,
                    "archive_sha256": found.proof.sha256,
                },
                after={"attached": False},
                figures={"rows": found.rows, "bytes": part.bytes},
                at_most={"rows": found.rows},
                undo=f"ATTACH {part.name} to {params.table} again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Detach, or finish a detach that was interrupted; then write down on the table when that was."""
        params = DetachPartitionParams.model_validate(effect.params)
        self._check(params)
        settings = self._connection
        async with session(
            settings, role=owner(settings), writes=True, seconds=settings.maintenance_timeout_seconds
        ) as link:
            with looking():
                seen = await look(link, params.table)
                attached, loose = _find(effect, seen)
                constraints = await _checks(link, effect.before["partition"])
            if loose is not None and loose.mark is not None:
                return Result(f"{loose.name} is detached already", changed=False)
            if attached is not None and not attached.pending:
                await self._must_be_archived(link, params, effect, attached)
            if attached is not None:
                await _detach(link, params.table, attached)
            comment = await _mark(link, effect, params.table)
        name = effect.before["name"]
        return Result(
            f"detached {name} from {params.table}; it may be dropped after "
            f"{settings.partitioning(params.table).grace_days} days",
            evidence={"partition": name, "rows": effect.before["rows"]},
            captured={"constraints": constraints, "comment": comment},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Attach it again with the bounds that it had, and take our mark and our constraint off it."""
        params = DetachPartitionParams.model_validate(effect.params)
        self._check(params)
        settings, name = self._connection, effect.before["name"]
        async with session(
            settings, role=owner(settings), writes=True, seconds=settings.maintenance_timeout_seconds
        ) as link:
            with looking():
                seen = await look(link, params.table)
                if name not in seen.partitions and name not in seen.loose:
                    raise Refused(f"{name} was dropped; its rows are in the archive only")
                attached, _ = _find(effect, seen)
            if attached is not None and not attached.pending:
                return Result(f"{name} is attached already", changed=False)
            if attached is not None:
                await _finish(link, params.table, name)
            with changing(f"ATTACH {name}"):
                async with link.transaction():
                    await _attach(link, params.table, effect, result.captured)
        return Result(f"attached {name} to {params.table} again")

    def progress(self, effect: Effect, seen: SeenForDetach) -> Progress:
        """Done where it is detached and marked; going on with a half-done detach is the same as starting."""
        try:
            attached, loose = _find(effect, seen.partitions)
        except Drifted:
            return Progress.UNCLEAR
        done = attached is None and loose is not None and loose.mark is not None
        return Progress.DONE if done else Progress.UNTOUCHED

    def permissions(self, params: DetachPartitionParams) -> Permissions:
        """Membership in the owner of the table, and reading the proof."""
        settings = self._connection.partitioning(params.table)
        rights = self._rights(*archive.rights(settings), owner=True)
        return Permissions(postgres=rights.postgres, other=rights.other, files=archive.files(settings))

    def _check(self, params: DetachPartitionParams) -> None:
        least = self._connection.partitioning(params.table).min_age_days
        if params.min_age_days < least:
            raise Refused(
                f"{params.min_age_days} days are fewer than the {least} that the connection asks for"
            )

    async def _candidate(self, link: Session, params: DetachPartitionParams, oldest: Partition) -> Candidate:
        settings = self._connection.partitioning(params.table)
        proof, problem = None, ""
        try:
            proof = await archive.proof(link, settings, oldest.name)
        except Refused as refusal:
            problem = str(refusal)
        await link.become(owner(self._connection))
        rows = await count(link, oldest.name)
        if proof is not None:
            problem = archive.problem(proof, oldest.span.upper, rows)
        return Candidate(oldest, rows, None if problem else proof, problem)

    async def _must_be_archived(
        self, link: Session, params: DetachPartitionParams, effect: Effect, attached: Partition
    ) -> None:
        async with session(self._connection) as as_ourselves:
            with looking():
                settings = self._connection.partitioning(params.table)
                proof = await archive.proof(as_ourselves, settings, attached.name)
        with looking():
            rows = await count(link, attached.name)
        must_hold(effect.subject, effect.before, {"rows": rows, "archive_sha256": proof.sha256})
        told = archive.problem(proof, attached.span.upper, rows)
        if told:
            raise Refused(told)


def _oldest(params: DetachPartitionParams, seen: SeenPartitions) -> Partition | None:
    limit = seen.now - timedelta(days=params.min_age_days)
    ended = [
        (part.span.upper, part)
        for part in seen.partitions.values()
        if part.span.upper is not None and part.span.upper < limit
    ]
    return min(ended, key=lambda one: one[0])[1] if ended else None


def _find(effect: Effect, seen: SeenPartitions) -> tuple[Partition | None, Loose | None]:
    """The planned partition as it is now, attached or loose. Raises Drifted where it is neither, or another."""
    must_hold(effect.subject, effect.before, {"database": seen.database, "parent": seen.parent})
    name = effect.before["name"]
    attached, loose = seen.partitions.get(name), seen.loose.get(name)
    there = attached or loose
    if there is None:
        raise Drifted(f"{name} is no longer there")
    must_hold(effect.subject, effect.before, {"partition": there.oid})
    if attached is not None:
        must_hold(effect.subject, effect.before, {"bounds": attached.bounds})
    return attached, loose


async def _detach(link: Session, parent: str, part: Partition) -> None:
    """Detach; where the server gives up while it waits for others, finish it or tell that nothing was done."""
    if part.pending:
        await _finish(link, parent, part.name)
        return
    statement = sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY")
    try:
        with changing(f"DETACH {part.name}"):
            await link.run(statement.format(identifier(parent), identifier(part.name)))
    except TemporaryFailure as error:
        try:
            with looking():
                now = (await look(link, parent)).partitions.get(part.name)
        except ActionError as fault:
            raise OutcomeUnknown(f"{error}; and then: {fault}") from error
        if now is not None and not now.pending:
            raise
        if now is not None:
            await _finish(link, parent, part.name)


async def _finish(link: Session, parent: str, name: str) -> None:
    statement = sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE")
    try:
        with changing(f"DETACH {name} FINALIZE"):
            await link.run(statement.format(identifier(parent), identifier(name)))
    except TemporaryFailure as error:
        raise OutcomeUnknown(f"the detach of {name} was begun and waits to be finished: {error}") from error


async def _mark(link: Session, effect: Effect, parent: str) -> str | None:
    """Write when it was detached, below the comment that it has; returns that comment."""
    name = effect.before["name"]
    try:
        with changing(f"COMMENT ON {name}"):
            seen = await look(link, parent)
            comment = seen.loose[name].comment if name in seen.loose else None
            mark = str(Mark(parent, effect.before["bounds"], seen.now))
            await _comment(link, name, f"{comment}\n{mark}" if comment else mark)
            return comment
    except ActionError as error:
        raise OutcomeUnknown(f"{name} is detached, but its grace has not begun: {error}") from error


async def _attach(link: Session, parent: str, effect: Effect, captured: Mapping[str, Any]) -> None:
    name = effect.before["name"]
    lower, upper = sides(effect.before["bounds"])
    statement = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")
    begin = sql.SQL("MINVALUE") if lower is None else sql.Literal(lower)
    end = sql.SQL("MAXVALUE") if upper is None else sql.Literal(upper)
    await link.run(statement.format(identifier(parent), identifier(name), begin, end))
    for constraint in await _checks(link, effect.before["partition"]):
        if constraint not in captured["constraints"]:
            drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
            await link.run(drop.format(identifier(name), sql.Identifier(constraint)))
    await _comment(link, name, captured["comment"])


async def _comment(link: Session, name: str, text: str | None) -> None:
    await link.run(sql.SQL("COMMENT ON TABLE {} IS {}").format(identifier(name), sql.Literal(text)))


async def _checks(link: Session, oid: int) -> list[str]:
    """The names of its own CHECK constraints: DETACH CONCURRENTLY leaves one that repeats the bounds."""
    query = b"SELECT conname AS name FROM pg_constraint WHERE conrelid = %(oid)s AND contype = 'c' ORDER BY 1"
    return [row["name"] for row in await link.rows(query, {"oid": oid})]
