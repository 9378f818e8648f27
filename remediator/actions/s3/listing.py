"""What stands below a prefix: all pages of it, each key as a safe relative path, and one digest for the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remediator.actions.s3.connection import asking, url_of
from remediator.errors import Refused
from remediator.stoppable import Stop

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_LONGEST_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class Listed:
    """One object, and where it goes; without parts it is the mark of a folder."""

    key: str
    parts: tuple[str, ...]
    folder: bool
    size_bytes: int
    etag: str


def listing(client: S3Client, bucket: str, prefix: str, stop: Stop, most: int) -> tuple[Listed, ...]:
    """Every object below a prefix.

    Raises:
        Refused: when there are more than `most`, or a key is no safe path.
    """
    found: list[Listed] = []
    with asking(f"listing of {url_of(bucket, prefix)}"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            stop.check()
            for one in page.get("Contents", []):
                parts, folder = relative(one["Key"], prefix)
                found.append(Listed(one["Key"], parts, folder, one["Size"], one["ETag"]))
            if len(found) > most:
                raise Refused(f"{url_of(bucket, prefix)} holds more than {most:,} objects")
    _no_clash(found)
    return tuple(found)


def relative(key: str, prefix: str) -> tuple[tuple[str, ...], bool]:
    """The path of a key below its prefix, and whether it only marks a folder.

    Raises:
        Refused: when the key would lead out of the folder, or is no path.
    """
    rest = key.removeprefix(prefix)
    folder = rest.endswith("/") or not rest
    parts = tuple(rest.rstrip("/").split("/")) if rest.strip("/") else ()
    wrong = (
        not key.startswith(prefix)
        or (rest.endswith("//"))
        or (not parts and rest != "")
        or any(part in {"", ".", ".."} or "\0" in part or "\n" in part for part in parts)
        or any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME_BYTES for part in parts)
    )
    if wrong:
        raise Refused(f"the key {key!r} is no path below {prefix}")
    return parts, folder


def _no_clash(found: Iterable[Listed]) -> None:
    files = {one.parts for one in found if not one.folder}
    for parts in files:
        for length in range(1, len(parts)):
            if parts[:length] in files:
                raise Refused(f"{'/'.join(parts[:length])} is both an object and a folder of objects")


def digest(found: Iterable[Listed]) -> str:
    """What tells one state of a prefix from another."""
    told = hashlib.sha256()
    for one in sorted(found, key=lambda one: one.key):
        told.update(f"{one.key}\0{one.size_bytes}\0{one.etag}\n".encode("utf-8", "surrogatepass"))
    return told.hexdigest()


def manifest(text: str) -> dict[tuple[str, ...], str]:
    """What `sha256sum` writes, by path.

    Raises:
        Refused: when a line is none of that.
    """
    told: dict[tuple[str, ...], str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        sha, _, name = line.partition(" ")
        name = name.removeprefix(" ").removeprefix("*").removeprefix("./")
        if len(sha) != 64 or set(sha) - set("0123456789abcdef") or not name:
            raise Refused("the manifest is not what sha256sum writes")
        parts, _ = relative(name, "")
        told[parts] = sha
    return told
