"""postgres.dump: pg_dump to a file of its own name, which has its place only once pg_restore can read it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.postgres.base import PostgresAction, database, must_hold
from remediator.actions.postgres.programs import Failed, run
from remediator.actions.postgres.session import conninfo, looking, password, session
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, PermanentFailure, Refused, TemporaryFailure
from remediator.figures import figure
from remediator.offload import offload
from remediator.pipeline.ports import Permissions

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.dump")
_CHUNK_BYTES = 1024 * 1024


class DumpParams(BaseModel):
    """Parameters of `postgres.dump`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    free_ratio: float = Field(
        default=1.0,
        ge=0.1,
        le=10,
        description="free space that has to be there, over the size of the database",
    )
    compress_level: int = Field(default=6, ge=0, le=9, description="of pg_dump; 0 is none")


@dataclass(frozen=True, slots=True)
class SeenDump:
    """The database, the folder's free space, and which dumps are there. `file` is a name that is not taken."""

    database: str
    database_bytes: int
    free_bytes: int
    dumps: tuple[str, ...]
    file: str


class Dump(PostgresAction):
    """Write a pg_dump beside the earlier ones: to a partial file, checked by pg_restore, synced, then renamed."""

    kind: ClassVar[str] = "postgres.dump"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = DumpParams

    async def observe(self, params: DumpParams) -> SeenDump:
        """Ask for the size and the time, and look into the folder."""
        folder = await offload(self._folder)
        query = b'SELECT pg_database_size(current_database()) AS bytes, to_char(now(), \'YYYYMMDD"T"HH24MISS"Z"\') AS at'
        async with session(self._connection) as link:
            with looking():
                identity, row = await database(link), await link.row(query)
        free, dumps = await offload(_look, folder)
        # The name is chosen while looking, so that a plan holds it and a second apply finds its file.
        file = f"{_slug(self._connection.database)}-{row['at']}-{secrets.token_hex(4)}.dump"
        return SeenDump(identity, row["bytes"], free, dumps, file)

    def plan(self, params: DumpParams, seen: SeenDump) -> tuple[Effect, ...]:
        """One effect: one more file."""
        needed = seen.database_bytes * params.free_ratio
        if seen.free_bytes < needed:
            raise Refused(
                f"{figure('bytes', seen.free_bytes)} are free, and a dump of {figure('bytes', seen.database_bytes)} "
                f"asks for {figure('bytes', needed)}"
            )
        return (
            Effect(
                action=self.kind,
                subject=self._subject("dump"),
                params=params.model_dump(mode="json"),
                summary=f"pg_dump {self._connection.place} ({figure('bytes', seen.database_bytes)}) "
                f"to {self._connection.dump_dir}, {figure('bytes', seen.free_bytes)} free there",
                before={"database": seen.database},
                after={"file": seen.file},
                figures={"database_bytes": seen.database_bytes, "free_bytes": seen.free_bytes},
                at_most={"database_bytes": round(seen.free_bytes / params.free_ratio)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Dump, check, sync, rename. Whatever fails before the rename leaves nothing behind."""
        params = DumpParams.model_validate(effect.params)
        name = effect.after["file"]
        if not _NAME.fullmatch(name) or not name.startswith(f"{_slug(self._connection.database)}-"):
            raise Refused(f"{name!r} is no name that a dump of {self._connection.database} would get")
        folder = await offload(self._folder)
        if await offload((folder / name).exists):
            return Result(f"{name} is there already", changed=False)
        async with session(self._connection) as link:
            with looking():
                must_hold(effect.subject, effect.before, {"database": await database(link)})
        partial = folder / f".{name}.partial"
        try:
            entries = await self._write(partial, params)
            size, digest = await offload(_settle, partial, folder / name)
        except OSError as error:
            raise PermanentFailure(f"the dump could not be written: {error.strerror}") from error
        finally:
            # After the rename it is no longer there. Blocking, because it has to happen when we are cancelled too.
            partial.unlink(missing_ok=True)
        told = {"file": str(folder / name), "bytes": size, "sha256": digest, "entries": entries}
        return Result(
            f"wrote {name}, {figure('bytes', size)}, {entries:,} entries", evidence=told, captured=told
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: a dump takes nothing away, and old ones go by their retention."""
        raise Refused(
            "a dump is never deleted here: it takes nothing away, and old ones go by their retention"
        )

    def progress(self, effect: Effect, seen: SeenDump) -> Progress:
        """Done where the file has its name."""
        if effect.after["file"] in seen.dumps:
            return Progress.DONE
        same = seen.database == effect.before["database"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: DumpParams) -> Permissions:
        """Reading everything. Large objects and row-level security ask for more, and pg_dump says so."""
        rights = self._rights("pg_read_all_data")
        return Permissions(postgres=rights.postgres, files=(f"rw {self._connection.dump_dir}",))

    def _folder(self) -> Path:
        folder = self._connection.dump_dir
        if folder is None:
            raise Refused("the connection names no dump_dir")
        try:
            resolved = folder.resolve(strict=True)
        except OSError as error:
            raise PermanentFailure(f"cannot reach {folder}: {error.strerror}") from error
        if resolved != folder or not stat.S_ISDIR(folder.lstat().st_mode):
            raise Refused(f"{folder} is no folder, or a link leads to it")
        return folder

    async def _write(self, partial: Path, params: DumpParams) -> int:
        """Run pg_dump into the partial file, and count what pg_restore finds in it."""
        settings = self._connection
        env = _environment(password(settings))
        # A partial file of an earlier try of this very dump is not to be appended to or followed.
        await offload(partial.unlink, missing_ok=True)
        await offload(_create, partial)
        target = conninfo(settings, with_password=False)
        lock = round(settings.lock_timeout_seconds * 1000)
        argv = (
            *("pg_dump", "--format=custom", "--no-password", f"--compress={params.compress_level}"),
            *(f"--lock-wait-timeout={lock}", f"--file={partial}", f"--dbname={target}"),
        )
        try:
            await run(argv, env, settings.maintenance_timeout_seconds)
            listed = await run(
                ("pg_restore", "--list", str(partial)), env, settings.maintenance_timeout_seconds
            )
        except Failed as error:
            raise await self._judged(error) from error
        entries = sum(1 for line in listed.splitlines() if line and not line.startswith(";"))
        if entries == 0:
            raise PermanentFailure("the dump holds nothing")
        return entries

    async def _judged(self, error: Failed) -> ActionError:
        """Whether trying again may work: where the server does not answer now, it may."""
        try:
            async with session(self._connection):
                pass
        except ActionError as fault:
            return TemporaryFailure(f"{error}; {fault}")
        return TemporaryFailure(str(error)) if error.timed_out else PermanentFailure(str(error))


def _environment(secret: str | None) -> Mapping[str, str]:
    """What pg_dump may know: where programs are, and the password, which argv would show to everybody."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "LC_MESSAGES": "C", **({"PGPASSWORD": secret} if secret is not None else {})}


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)[:63]


def _look(folder: Path) -> tuple[int, tuple[str, ...]]:
    try:
        names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
        return shutil.disk_usage(folder).free, tuple(names)
    except OSError as error:
        raise PermanentFailure(f"cannot look into {folder}: {error.strerror}") from error


def _create(partial: Path) -> None:
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _settle(partial: Path, final: Path) -> tuple[int, str]:
    """Sync the file, give it its name unless that is taken, sync the folder; its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with partial.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(file.fileno())
    # Unlike a rename, a link never takes another file's place.
    os.link(partial, final)
    partial.unlink()
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size, digest.hexdigest()
