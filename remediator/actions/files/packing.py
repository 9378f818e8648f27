"""A log as a gzip file in the archive, read back before it counts, and the way back."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from remediator.errors import Drifted, PermanentFailure
from remediator.rooted import CHUNK_BYTES, move_new, regular, unfinished, write_all
from remediator.stoppable import Stop


def archive_name(name: str, mtime_ns: int, sha: str) -> str:
    """The name of a log's archive: when it was last written (UTC), and its SHA-256."""
    stamp = datetime.fromtimestamp(mtime_ns // 10**9, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{name}_{stamp}_{sha[:16]}.gz"


def pack(stop: Stop, held: int, store: int, name: str) -> tuple[str, str]:
    """Compress an open log into the archive and read it back; its SHA-256 and the archive's name."""
    found = os.fstat(held)
    with unfinished(store) as (new, own):
        digest, at = hashlib.sha256(), 0
        with (
            os.fdopen(os.dup(new), "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
        ):
            while chunk := os.pread(held, CHUNK_BYTES, at):
                stop.check()
                digest.update(chunk)
                packed.write(chunk)
                at += len(chunk)
        sha = digest.hexdigest()
        os.fchmod(new, found.st_mode & 0o777)
        os.fsync(new)
        os.posix_fadvise(new, 0, 0, os.POSIX_FADV_DONTNEED)
        if _unpacked_sha(stop, new) != sha:
            raise PermanentFailure(f"the archive of {name} does not hold what was archived; the log stays")
        archive = archive_name(name, found.st_mtime_ns, sha)
        try:
            move_new(store, own, archive)
        except FileExistsError:
            with regular(store, archive) as there:
                if _unpacked_sha(stop, there) != sha:
                    raise PermanentFailure(f"{archive} is there already, and is not whole") from None
        os.fsync(store)
    return sha, archive


def _unpacked_sha(stop: Stop, packed: int) -> str:
    digest = hashlib.sha256()
    with os.fdopen(os.dup(packed), "rb") as raw:
        raw.seek(0)
        try:
            with gzip.GzipFile(fileobj=raw, mode="rb") as plain:
                while chunk := plain.read(CHUNK_BYTES):
                    stop.check()
                    digest.update(chunk)
        except (EOFError, gzip.BadGzipFile):
            return ""
    return digest.hexdigest()


def unpack(stop: Stop, store: int, source: int, file: Mapping[str, Any]) -> None:
    """Put an archived log back where it was, with its mode and time."""
    name, digest = str(file["name"]), hashlib.sha256()
    with (
        regular(store, str(file["archive"])) as packed,
        unfinished(source) as (new, own),
        os.fdopen(os.dup(packed), "rb") as raw,
        gzip.GzipFile(fileobj=raw, mode="rb") as plain,
    ):
        try:
            while chunk := plain.read(CHUNK_BYTES):
                stop.check()
                digest.update(chunk)
                write_all(new, chunk)
        except (EOFError, gzip.BadGzipFile) as error:
            raise OSError(errno.EIO, "the archive is broken", str(file["archive"])) from error
        if digest.hexdigest() != file["sha256"]:
            raise PermanentFailure(f"the archive {file['archive']} is not what was archived")
        os.fchmod(new, int(file["mode"]) & 0o777)
        os.utime(new, ns=(int(file["mtime_ns"]), int(file["mtime_ns"])))
        os.fsync(new)
        try:
            move_new(source, own, name)
        except FileExistsError as error:
            raise Drifted(f"{name} is there again") from error
        os.fsync(source)
