"""s3.restore_version: an earlier version of one object, copied over the present one; nothing is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.actions.s3.connection import (
    BucketName,
    ObjectKey,
    S3Action,
    asking,
    changing,
    statement,
    url_of,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.stoppable import Stop, stoppable

LARGEST_COPY_BYTES = 5 * 2**30
"""What S3 copies in one request."""

FROM, REPLACED = "remediator-restored-from", "remediator-replaced"
"""Metadata of our copies: which version it is a copy of, and which one it replaced."""

_KEPT = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl")


class RestoreVersionParams(BaseModel):
    """Parameters of `s3.restore_version`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    bucket: BucketName = Field(description="one of the connection's buckets")
    key: ObjectKey = Field(description="the connection must allow a prefix of it")
    version_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,1024}$")] | None = Field(
        default=None,
        description="which version is wanted; where it is left out, the newest before the present one",
    )


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the object; `deleted` where it is a delete marker. `written_at` is ISO 8601."""

    id: str
    etag: str
    size_bytes: int
    written_at: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class SeenVersions:
    """The versions of one object, and which versions its present one says that it was restored from and replaced."""

    versioned: bool
    current: Version | None
    earlier: tuple[Version, ...]
    restored_from: str = ""
    replaced: str = ""


class RestoreVersion(S3Action):
    """Copy an earlier version of one object over the present one, which stays as the version before."""

    kind: ClassVar[str] = "s3.restore_version"
    idempotent: ClassVar[bool] = False
    Params: ClassVar[type[BaseModel]] = RestoreVersionParams

    async def observe(self, params: RestoreVersionParams) -> SeenVersions:
        """List the versions of the object."""
        self._bucket(params.bucket, params.key)
        return await stoppable(self._see, params)

    def plan(self, params: RestoreVersionParams, seen: SeenVersions) -> tuple[Effect, ...]:
        """One effect: which version replaces which."""
        url = url_of(params.bucket, params.key)
        if not seen.versioned:
            raise Refused(f"the bucket {params.bucket} keeps no versions: the present object would be lost")
        if seen.current is None:
            raise NothingSelected(f"there is no {url}")
        wanted = _wanted(params, seen)
        if wanted.id in (seen.current.id, seen.restored_from):
            raise NothingSelected(f"{url} is the version {wanted.id} already")
        if wanted.size_bytes > LARGEST_COPY_BYTES:
            raise Refused(f"{url} has {figure('bytes', wanted.size_bytes)}: S3 copies at most 5 GiB at once")
        now = "a delete marker" if seen.current.deleted else _told(seen.current)
        return (
            Effect(
                action=self.kind,
                subject=url,
                params=params.model_dump(mode="json"),
                summary=f"copy {_told(wanted)} of {url} over {now}",
                before={"current": seen.current.id, "deleted": seen.current.deleted, "source": wanted.id},
                after={"restored_from": wanted.id, "bytes": wanted.size_bytes},
                figures={"bytes": wanted.size_bytes},
                undo="delete it again (a delete marker)"
                if seen.current.deleted
                else f"copy the version {seen.current.id} back over it",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Copy it within S3, unless the present version is that copy."""
        params = RestoreVersionParams.model_validate(effect.params)
        self._bucket(params.bucket, params.key)
        source, replaced = str(effect.before["source"]), str(effect.before["current"])
        return await stoppable(self._copy, params, source, replaced)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Copy the replaced version back, or delete the object again where it had been deleted."""
        params = RestoreVersionParams.model_validate(effect.params)
        self._bucket(params.bucket, params.key)
        return await stoppable(self._undo, params, effect)

    def progress(self, effect: Effect, seen: SeenVersions) -> Progress:
        """Done where the present version says that it is this very copy."""
        if (seen.restored_from, seen.replaced) == (effect.before["source"], effect.before["current"]):
            return Progress.DONE
        same = seen.current is not None and seen.current.id == effect.before["current"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: RestoreVersionParams) -> Permissions:
        """Listing the versions of this key, reading them, and writing it; deleting only for an undo that needs it."""
        listing = statement(
            ("ListBucketVersions",), params.bucket, StringLike={"s3:prefix": [params.key, f"{params.key}*"]}
        )
        return Permissions(
            iam=(
                statement(("GetBucketVersioning",), params.bucket),
                listing,
                statement(
                    (
                        "GetObject",
                        "GetObjectVersion",
                        "GetObjectTagging",
                        "GetObjectVersionTagging",
                        "PutObject",
                        "PutObjectTagging",
                        "DeleteObject",
                    ),
                    params.bucket,
                    params.key,
                ),
            )
        )

    def _see(self, stop: Stop, params: RestoreVersionParams) -> SeenVersions:
        url = url_of(params.bucket, params.key)
        current: Version | None = None
        earlier: list[Version] = []
        with asking(f"versions of {url}"):
            status = self._s3.get_bucket_versioning(Bucket=params.bucket).get("Status", "")
            pages = self._s3.get_paginator("list_object_versions").paginate(
                Bucket=params.bucket, Prefix=params.key
            )
            for page in pages:
                stop.check()
                for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    if found["Key"] != params.key:
                        continue
                    if found["IsLatest"]:
                        current = _version(found)
                    elif "ETag" in found:
                        earlier.append(_version(found))
            marks = {} if current is None or current.deleted else self._head(params)["Metadata"]
        return SeenVersions(
            versioned=status == "Enabled",
            current=current,
            earlier=tuple(earlier),
            restored_from=marks.get(FROM, ""),
            replaced=marks.get(REPLACED, ""),
        )

    def _head(self, params: RestoreVersionParams, version_id: str = "") -> Any:
        which: Any = {"VersionId": version_id} if version_id else {}
        return self._s3.head_object(Bucket=params.bucket, Key=params.key, **which)

    def _copy(self, stop: Stop, params: RestoreVersionParams, source: str, replaced: str) -> Result:
        url = url_of(params.bucket, params.key)
        seen = self._see(stop, params)
        if not seen.versioned:
            raise Drifted(f"the bucket {params.bucket} keeps no versions any more")
        if (seen.restored_from, seen.replaced) == (source, replaced):
            return Result(f"{url} is a copy of the version {source} already", changed=False)
        if seen.current is None or seen.current.id != replaced:
            now = seen.current.id if seen.current else "gone"
            raise Drifted(f"the present version of {url} was {replaced} and is {now}")
        with asking(f"version {source} of {url}"):
            wanted = self._head(params, source)
        stop.check()
        with changing(f"copy of {url}"):
            answer = self._s3.copy_object(
                Bucket=params.bucket,
                Key=params.key,
                CopySource={"Bucket": params.bucket, "Key": params.key, "VersionId": source},
                CopySourceIfMatch=wanted["ETag"],
                MetadataDirective="REPLACE",
                Metadata={**wanted["Metadata"], FROM: source, REPLACED: replaced},
                ChecksumAlgorithm="SHA256",
                **{name: wanted[name] for name in _KEPT if name in wanted},
            )
        with asking(f"the new version of {url}"):
            after = self._head(params)
        if after["ContentLength"] != wanted["ContentLength"]:
            raise OutcomeUnknown(f"the copy of {url} has another size than the version {source}")
        return Result(
            f"{url} is a copy of the version {source} again",
            evidence={"version": answer.get("VersionId", ""), "bytes": after["ContentLength"]},
            captured={"version": answer.get("VersionId", "")},
        )

    def _undo(self, stop: Stop, params: RestoreVersionParams, effect: Effect) -> Result:
        url = url_of(params.bucket, params.key)
        source, was = str(effect.before["source"]), str(effect.before["current"])
        seen = self._see(stop, params)
        current = seen.current
        if effect.before["deleted"] and current is not None and current.deleted:
            return Result(f"{url} is deleted already", changed=False)
        if current is not None and (current.id == was or seen.restored_from == was):
            return Result(f"{url} is the version {was} already", changed=False)
        if current is None or (seen.restored_from, seen.replaced) != (source, was):
            raise Drifted(f"{url} was written by somebody else since")
        if not effect.before["deleted"]:
            return self._copy(stop, params, was, current.id)
        with changing(f"delete marker of {url}"):
            self._s3.delete_object(Bucket=params.bucket, Key=params.key)
        return Result(f"deleted {url} again; its versions stay")


def _wanted(params: RestoreVersionParams, seen: SeenVersions) -> Version:
    url = url_of(params.bucket, params.key)
    if params.version_id is None:
        if not seen.earlier:
            raise NothingSelected(f"there is no earlier version of {url}")
        return seen.earlier[0]
    among = [*seen.earlier, *([seen.current] if seen.current else [])]
    for version in among:
        if version.id == params.version_id and not version.deleted:
            return version
    raise NothingSelected(f"there is no version {params.version_id} of {url}")


def _version(found: Any) -> Version:
    return Version(
        id=found["VersionId"],
        etag=found.get("ETag", ""),
        size_bytes=found.get("Size", 0),
        written_at=found["LastModified"].isoformat(),
        deleted="ETag" not in found,
    )


def _told(version: Version) -> str:
    return f"the version {version.id} ({figure('bytes', version.size_bytes)}, {version.written_at})"
