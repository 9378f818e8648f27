"""Objects into a new folder, each checked against what S3 says of it and against the manifest, if there is one."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediator.actions.s3.connection import asking, url_of
from remediator.actions.s3.listing import Listed
from remediator.errors import PermanentFailure, TemporaryFailure
from remediator.rooted import CHUNK_BYTES, below, look, write_all
from remediator.stoppable import Stop

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_PLAIN_MD5 = re.compile(r'^"?([0-9a-f]{32})"?$')


@dataclass(slots=True)
class Fetched:
    """What was fetched, and how many objects only their size could be checked of."""

    objects: int = 0
    bytes: int = 0
    size_only: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom the new folder and what is in it belong, and the folder's mode."""

    uid: int
    gid: int
    mode: int


class _Read:
    """The sums of what was read."""

    def __init__(self) -> None:
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.crc32 = 0
        self.bytes = 0

    def add(self, chunk: bytes) -> None:
        """Go on."""
        self.sha256.update(chunk)
        self.md5.update(chunk)
        self.crc32 = zlib.crc32(chunk, self.crc32)
        self.bytes += len(chunk)


class Download:
    """Fills a new folder; whatever fails, `discard` removes it."""

    def __init__(
        self, client: S3Client, bucket: str, parent: int, name: str, owner: Owner, stop: Stop
    ) -> None:
        self._client, self._bucket, self._stop = client, bucket, stop
        self._parent, self._name, self._owner = parent, name, owner
        self._made: tuple[int, int] | None = None
        self.fetched = Fetched()

    def run(self, objects: Sequence[Listed], shas: Mapping[tuple[str, ...], str]) -> None:
        """Make the folder, anew where one of an earlier try is left, and fetch everything into it."""
        if look(self._parent, self._name) is not None:
            shutil.rmtree(self._name, dir_fd=self._parent)
        os.mkdir(self._name, 0o700, dir_fd=self._parent)
        with below(self._parent, (self._name,)) as root:
            made = os.fstat(root)
            self._made = (made.st_dev, made.st_ino)
            for one in objects:
                self._stop.check()
                self._fetch(root, one, shas.get(one.parts))
            self._settle(root)

    def discard(self) -> None:
        """Remove the folder that was made, if the name still means that one."""
        found = look(self._parent, self._name)
        if found is not None and (found.st_dev, found.st_ino) == self._made:
            shutil.rmtree(self._name, dir_fd=self._parent)

    def _fetch(self, root: int, one: Listed, sha: str | None) -> None:
        inner = one.parts if one.folder else one.parts[:-1]
        with self._folder(root, inner) as held:
            if one.folder:
                return
            how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(one.parts[-1], how, 0o666, dir_fd=held)
            try:
                self._receive(file, one, sha)
                self._own(file)
                os.fsync(file)
            finally:
                os.close(file)

    def _receive(self, file: int, one: Listed, sha: str | None) -> None:
        url, read = url_of(self._bucket, one.key), _Read()
        with asking(url):
            answer: Any = self._client.get_object(Bucket=self._bucket, Key=one.key, IfMatch=one.etag)
            with answer["Body"] as body:
                while chunk := body.read(CHUNK_BYTES):
                    self._stop.check()
                    read.add(chunk)
                    write_all(file, chunk)
        if read.bytes != one.size_bytes:
            raise TemporaryFailure(f"{url} came with {read.bytes:,} bytes instead of {one.size_bytes:,}")
        if sha is not None and read.sha256.hexdigest() != sha:
            raise PermanentFailure(f"{url} is not what the manifest says: its SHA-256 is another")
        if sha is None:
            self._check(url, one, read, encrypted="ServerSideEncryption" in answer)
        self.fetched.objects += 1
        self.fetched.bytes += read.bytes

    def _check(self, url: str, one: Listed, read: _Read, *, encrypted: bool) -> None:
        """Compare with what S3 says of the whole object: its ETag where that is an MD5, else its checksum."""
        plain = _PLAIN_MD5.match(one.etag)
        if plain and not encrypted:
            if plain[1] != read.md5.hexdigest():
                raise PermanentFailure(f"{url} is damaged: its MD5 is another")
            return
        with asking(url):
            told: Any = self._client.head_object(
                Bucket=self._bucket, Key=one.key, IfMatch=one.etag, ChecksumMode="ENABLED"
            )
        whole = told.get("ChecksumType") != "COMPOSITE"
        for name, mine in (
            ("ChecksumSHA256", read.sha256.digest()),
            ("ChecksumCRC32", read.crc32.to_bytes(4, "big")),
        ):
            if whole and name in told:
                if base64.b64decode(told[name]) != mine:
                    raise PermanentFailure(f"{url} is damaged: its {name} is another")
                return
        self.fetched.size_only += 1

    @contextmanager
    def _folder(self, root: int, parts: tuple[str, ...]) -> Iterator[int]:
        """The folder of these parts, made where it is missing."""
        for depth in range(1, len(parts) + 1):
            with below(root, parts[: depth - 1]) as outer:
                if look(outer, parts[depth - 1]) is None:
                    os.mkdir(parts[depth - 1], 0o777, dir_fd=outer)
                    with below(outer, parts[depth - 1 : depth]) as made:
                        self._own(made)
        with below(root, parts) as held:
            yield held

    def _own(self, file: int) -> None:
        found = os.fstat(file)
        if (found.st_uid, found.st_gid) != (self._owner.uid, self._owner.gid):
            os.fchown(file, self._owner.uid, self._owner.gid)

    def _settle(self, root: int) -> None:
        """Write the folders themselves out, and give the top one its owner and mode."""
        for _, _, _, held in os.fwalk(".", dir_fd=root, follow_symlinks=False):
            os.fsync(held)
        self._own(root)
        os.fchmod(root, self._owner.mode)
        os.fsync(root)
        os.fsync(self._parent)
