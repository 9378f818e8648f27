"""s3.upload: one file of this host, under a key that nothing has, checked by its SHA-256 on the other side."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.actions.s3.connection import (
    BucketName,
    Name,
    Prefix,
    S3Action,
    allowed,
    asking,
    changing,
    statement,
    url_of,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, OutcomeUnknown, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import Identity, folder, looking, regular, sha256
from remediator.stoppable import Stop, stoppable

LARGEST_BYTES = 5 * 10**9
"""What S3 takes in one request."""

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")]


class UploadParams(BaseModel):
    """Parameters of `s3.upload`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    bucket: BucketName = Field(description="one of the connection's buckets")
    prefix: Prefix = Field(description="below which the file goes; the connection must allow it")
    source: Name = Field(description="what the connection calls the folder of the file")
    file: FileName = Field(description="the name of the file in it")


@dataclass(frozen=True, slots=True)
class SeenFile:
    """The file, and whether its key is taken. `checksum` is what S3 says of what is there, in base64, if it says."""

    size_bytes: int
    sha256: str
    key: str
    there: bool
    checksum: str


class Upload(S3Action):
    """Upload one file under a name with its time and SHA-256; S3 checks it, and nothing is ever overwritten."""

    kind: ClassVar[str] = "s3.upload"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = UploadParams

    async def observe(self, params: UploadParams) -> SeenFile:
        """Read the file, and ask for its key."""
        self._bucket(params.bucket, params.prefix)
        return await stoppable(self._see, params)

    def plan(self, params: UploadParams, seen: SeenFile) -> tuple[Effect, ...]:
        """One effect: one new object; it may be there already."""
        url = url_of(params.bucket, seen.key)
        if seen.size_bytes > LARGEST_BYTES:
            raise Refused(
                f"{params.file} has {figure('bytes', seen.size_bytes)}; one request takes at most 5 GB"
            )
        if seen.size_bytes == 0:
            raise Refused(f"{params.file} is empty: that is no backup")
        told = f"upload {params.file} ({figure('bytes', seen.size_bytes)}) as {url}"
        return (
            Effect(
                action=self.kind,
                subject=f"upload of {self._folder(params) / params.file}",
                params=params.model_dump(mode="json"),
                summary=f"{params.file} is {url} already" if seen.there else told,
                before={"sha256": seen.sha256, "key": seen.key},
                figures={"bytes": 0 if seen.there else seen.size_bytes},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Send it with its checksum, on condition that the key is free."""
        params = UploadParams.model_validate(effect.params)
        self._bucket(params.bucket, params.prefix)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: one object more does no harm, and its rules expire it")

    def progress(self, effect: Effect, seen: SeenFile) -> Progress:
        """Done where the key is there; an upload under a free key may always be made again."""
        if (seen.sha256, seen.key) != (effect.before["sha256"], effect.before["key"]):
            return Progress.UNCLEAR
        return Progress.DONE if seen.there else Progress.UNTOUCHED

    def permissions(self, params: UploadParams) -> Permissions:
        """Looking for the key, and writing and reading below the prefix."""
        listing = statement(("ListBucket",), params.bucket, StringLike={"s3:prefix": [f"{params.prefix}*"]})
        objects = statement(("PutObject", "GetObject"), params.bucket, f"{params.prefix}*")
        return Permissions(iam=(listing, objects), files=(f"r {self._folder(params) / params.file}",))

    def _folder(self, params: UploadParams) -> Path:
        return allowed("sources", params.source, self._connection.sources)

    def _see(self, stop: Stop, params: UploadParams) -> SeenFile:
        where = self._folder(params)
        with looking(where / params.file), folder(where) as held, regular(held, params.file) as file:
            found = os.fstat(file)
            sha = sha256(file, stop) if 0 < found.st_size <= LARGEST_BYTES else ""
            if Identity.of(os.fstat(file)) != Identity.of(found):
                raise PermanentFailure(f"{params.file} is being written")
        key = key_of(params.prefix, params.file, found.st_mtime_ns, sha)
        there, checksum = self._there(params.bucket, key)
        return SeenFile(found.st_size, sha, key, there, checksum)

    def _there(self, bucket: str, key: str) -> tuple[bool, str]:
        """Whether the key is taken, asked by a listing: where nothing is, a HEAD would need more privilege."""
        with asking(url_of(bucket, key)):
            listed = self._s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            if key not in [one["Key"] for one in listed.get("Contents", [])]:
                return False, ""
            head = self._s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            return True, head.get("ChecksumSHA256", "")

    def _apply(self, stop: Stop, params: UploadParams, effect: Effect) -> Result:
        seen = self._see(stop, params)
        url = url_of(params.bucket, seen.key)
        if (seen.sha256, seen.key) != (effect.before["sha256"], effect.before["key"]):
            raise Drifted(f"{params.file} has changed since it was planned")
        checksum = base64.b64encode(bytes.fromhex(seen.sha256)).decode()
        if seen.there:
            if seen.checksum not in ("", checksum):
                raise PermanentFailure(f"{url} is there and holds something else")
            return Result(f"{url} is there already", changed=False, evidence={"key": seen.key})
        where = self._folder(params)
        stop.check()
        with (
            looking(where / params.file),
            folder(where) as held,
            regular(held, params.file) as file,
            os.fdopen(os.dup(file), "rb") as body,
            changing(f"upload to {url}"),
        ):
            answer = self._s3.put_object(
                Bucket=params.bucket, Key=seen.key, Body=body, ChecksumSHA256=checksum, IfNoneMatch="*"
            )
        _, there = self._there(params.bucket, seen.key)
        if there not in ("", checksum):
            raise OutcomeUnknown(f"{url} is not what was sent: its SHA-256 is another")
        return Result(
            f"uploaded {params.file} ({figure('bytes', seen.size_bytes)}) as {url}",
            evidence={"key": seen.key, "sha256": seen.sha256, "version": answer.get("VersionId", "")},
        )


def key_of(prefix: str, file: str, mtime_ns: int, sha: str) -> str:
    """The key of a file's content: its name, when it was last written (UTC) and its SHA-256."""
    path = PurePath(file)
    stamp = datetime.fromtimestamp(mtime_ns // 10**9, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{prefix}{path.stem}_{stamp}_{sha[:16]}{path.suffix}"
