"""postgres.create_partition: the partitions of this period and the next ones, made before they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres.base import PostgresAction, identifier, must_hold
from remediator.actions.postgres.connection import Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.partitions import TYPES, SeenPartitions, look
from remediator.actions.postgres.periods import Every, Period, literal, name, periods
from remediator.actions.postgres.session import Session, changing, looking, owner, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class CreatePartitionParams(BaseModel):
    """Parameters of `postgres.create_partition`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    table: Table = Field(description="the partitioned table; the connection must allow it")
    periods_ahead: int = Field(
        default=2, ge=1, le=31, description="months or days, as the connection says, after the current one"
    )


@dataclass(frozen=True, slots=True)
class SeenForCreation:
    """What was seen, and what the connection says of the table."""

    every: Every
    seen: SeenPartitions


class CreatePartition(PostgresAction):
    """Make the missing partitions with CREATE TABLE (LIKE) and ATTACH, which does not lock the parent for others."""

    kind: ClassVar[str] = "postgres.create_partition"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = CreatePartitionParams

    async def observe(self, params: CreatePartitionParams) -> SeenForCreation:
        """Read the catalogue, and the time there."""
        every = self._connection.partitioning(params.table).every
        async with session(self._connection) as link:
            with looking():
                return SeenForCreation(every=every, seen=await look(link, params.table))

    def plan(self, params: CreatePartitionParams, seen: SeenForCreation) -> tuple[Effect, ...]:
        """One effect: all that are missing, in one transaction."""
        found = seen.seen
        wanted = _missing(params, seen)
        if not wanted:
            raise NothingSelected(
                f"{params.table} has its partitions up to {params.periods_ahead} {seen.every}s ahead"
            )
        if found.has_default:
            raise Refused(
                f"{params.table} has a default partition: attaching another one locks and reads it, "
                "which is a person's decision"
            )
        bounds = {
            partition: [literal(period.lower, found.type), literal(period.upper, found.type)]
            for partition, period in wanted.items()
        }
        told = ", ".join(f"{partition} (from {lower})" for partition, (lower, _) in bounds.items())
        return (
            Effect(
                action=self.kind,
                subject=self._subject(f"partitions of {params.table}"),
                params=params.model_dump(mode="json"),
                summary=f"make {len(wanted)} empty partition(s) of {params.table}: {told}",
                before={
                    "database": found.database,
                    "parent": found.parent,
                    "key": f"{found.column} {found.type}",
                    "missing": list(bounds),
                },
                after={"partitions": bounds},
                figures={"partitions": len(wanted)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Make and attach those that are still missing."""
        params = CreatePartitionParams.model_validate(effect.params)
        settings = self._connection
        _check_names(effect, params.table, settings.partitioning(params.table).every)
        async with session(settings, role=owner(settings), writes=True) as link:
            with looking():
                missing = _still_missing(effect, await look(link, params.table))
            if not missing:
                return Result(f"{params.table} has these partitions already", changed=False)
            with changing("the making of partitions"):
                async with link.transaction():
                    for partition in missing:
                        await _make(link, params.table, partition, effect.after["partitions"][partition])
        return Result(f"made {', '.join(missing)}", evidence={"partitions": missing})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: an empty partition is in nobody's way."""
        raise Refused("an empty partition harms nothing, and taking it away would lock the whole table")

    def progress(self, effect: Effect, seen: SeenForCreation) -> Progress:
        """Done where all are attached; they come all at once, or none."""
        try:
            missing = _still_missing(effect, seen.seen)
        except Drifted:
            return Progress.UNCLEAR
        if not missing:
            return Progress.DONE
        return Progress.UNTOUCHED if missing == list(effect.before["missing"]) else Progress.UNCLEAR

    def permissions(self, params: CreatePartitionParams) -> Permissions:
        """Membership in the owner of the table, who may create tables in its schema."""
        return self._rights(owner=True)


def _missing(params: CreatePartitionParams, seen: SeenForCreation) -> dict[str, Period]:
    """The names and periods that no partition covers. Raises Refused where one is covered in part."""
    schema, short = params.table.split(".", 1)
    found, wanted = seen.seen, {}
    for period in periods(found.now, seen.every, params.periods_ahead):
        partition = f"{schema}.{name(short, period, seen.every)}"
        over = [one for one in found.partitions.values() if period.overlaps(one.span)]
        if not over:
            if partition in found.loose or len(partition.split(".", 1)[1]) > 63:
                raise Refused(
                    f"{partition} is there and not attached, or too long a name; a person looks at it"
                )
            wanted[partition] = period
        elif any(not period.within(one.span) for one in over):
            raise Refused(
                f"{', '.join(one.name for one in over)} holds a part of the {seen.every} of {partition}"
            )
    return wanted


def _check_names(effect: Effect, table: str, every: Every) -> None:
    """Raise Refused unless each planned partition has the very name of the period that it covers."""
    schema, short = table.split(".", 1)
    for partition, (lower, upper) in effect.after["partitions"].items():
        period = periods(datetime.fromisoformat(lower).replace(tzinfo=UTC), every, 0)[0]
        bounds = any(
            [lower, upper] == [literal(period.lower, type_), literal(period.upper, type_)] for type_ in TYPES
        )
        if partition != f"{schema}.{name(short, period, every)}" or not bounds:
            raise Refused(
                f"{partition} from {lower} to {upper} is no partition that would be planned for {table}"
            )


def _still_missing(effect: Effect, seen: SeenPartitions) -> list[str]:
    now = {"database": seen.database, "parent": seen.parent, "key": f"{seen.column} {seen.type}"}
    must_hold(effect.subject, effect.before, now)
    missing: list[str] = []
    planned: Mapping[str, list[str]] = effect.after["partitions"]
    for partition, (lower, upper) in planned.items():
        there = seen.partitions.get(partition)
        if there is None:
            missing.append(partition)
        elif there.bounds != f"FOR VALUES FROM ('{lower}') TO ('{upper}')":
            raise Drifted(f"{partition} is there with other bounds: {there.bounds}")
        if partition in seen.loose:
            raise Drifted(f"{partition} is there now, and not attached")
    if seen.has_default:
        raise Drifted("there is a default partition now")
    return missing


async def _make(link: Session, parent: str, partition: str, bounds: list[str]) -> None:
    # PARTITION OF would lock the parent against everybody; ATTACH lets reads and writes go on.
    whole, part = identifier(parent), identifier(partition)
    await link.run(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY)").format(part, whole))
    attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")
    await link.run(attach.format(whole, part, sql.Literal(bounds[0]), sql.Literal(bounds[1])))
