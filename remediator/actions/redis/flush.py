"""redis.flush_db: empty one database, where configuration says that all of it is a cache of this system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.redis.connection import RedisAction, changing, looking, same_server
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class FlushDbParams(BaseModel):
    """Parameters of `redis.flush_db`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    max_keys: int = Field(ge=1, le=10**9, description="with more keys than these nothing is flushed")


@dataclass(frozen=True, slots=True)
class Database:
    """How many keys a database holds. `flushes` counts the FLUSHDB calls of this run of the server."""

    server: str
    db: int
    keys: int
    flushes: int


class FlushDb(RedisAction):
    """FLUSHDB ASYNC on a database that is declared `dedicated`, and on no other; every key in it is lost."""

    kind: ClassVar[str] = "redis.flush_db"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = FlushDbParams

    async def observe(self, params: FlushDbParams) -> Database:
        """Count."""
        self._check()
        with looking():
            return await self._database()

    def plan(self, params: FlushDbParams, seen: Database) -> tuple[Effect, ...]:
        """One effect: all keys of this database go."""
        if seen.keys == 0:
            raise NothingSelected(f"db {seen.db} is empty")
        if seen.keys > params.max_keys:
            raise Refused(f"db {seen.db} holds {seen.keys:,} keys, more than {params.max_keys:,}")
        return (
            Effect(
                action=self.kind,
                subject=f"{self._subject} db {seen.db}",
                params=params.model_dump(mode="json"),
                summary=f"FLUSHDB: all {seen.keys:,} keys of db {seen.db} are lost",
                before={"server": seen.server, "db": seen.db, "flushes": seen.flushes},
                figures={"keys": seen.keys},
                at_most={"keys": params.max_keys},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Flush, unless that was done since it was planned, or there are more keys than were approved."""
        params = FlushDbParams.model_validate(effect.params)
        self._check()
        with looking():
            seen = await self._database()
        same_server(effect.before, seen.server)
        if seen.db != effect.before["db"]:
            raise Drifted(f"the connection names db {seen.db}, and db {effect.before['db']} was planned on")
        if seen.flushes > effect.before["flushes"]:
            return Result("a FLUSHDB ran on this server since it was planned", changed=False)
        if seen.keys == 0:
            return Result(f"db {seen.db} is empty already", changed=False)
        if seen.keys > min(params.max_keys, effect.at_most["keys"]):
            raise Drifted(f"db {seen.db} holds {seen.keys:,} keys, more than were approved")
        with changing("FLUSHDB"):
            await self._redis.flushdb(asynchronous=True)
        return Result(f"flushed {seen.keys:,} keys of db {seen.db}", evidence={"keys": seen.keys})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: the entries are computed again on use."""
        raise Refused("flushed keys cannot be brought back; they are computed again on use")

    def progress(self, effect: Effect, seen: Database) -> Progress:
        """Done where a FLUSHDB ran since, or no key is left."""
        if seen.server != effect.before["server"] or seen.db != effect.before["db"]:
            return Progress.UNCLEAR
        flushed = seen.flushes > effect.before["flushes"] or seen.keys == 0
        return Progress.DONE if flushed else Progress.UNTOUCHED

    def permissions(self, params: FlushDbParams) -> Permissions:
        """Counting and flushing. The ACL of Redis cannot bind FLUSHDB to one database."""
        return Permissions(redis=self._rights("+info", "+dbsize", "+flushdb"))

    def _check(self) -> None:
        if not self._connection.dedicated:
            raise Refused("the database is not declared dedicated: others' keys may stand in it")

    async def _database(self) -> Database:
        server = await self._run_id()
        calls = await self._info("commandstats")
        flushes = int(calls.get("cmdstat_flushdb", {}).get("calls", 0))
        return Database(server, self._db, int(await self._redis.dbsize()), flushes)
