"""One use of every S3 action, ready to be planned, applied, spoilt and undone."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from remediator.actions.s3 import (
    PutLifecycle,
    RestoreFromGlacier,
    RestoreVersion,
    S3Connection,
    SyncAside,
    Upload,
)

_numbers = itertools.count()


@dataclass(frozen=True)
class Account:
    """An S3 server, and its root user."""

    url: str
    access_key: str
    secret_key: str
    folder: Path

    def client(self, service: str = "s3") -> Any:
        """A client as root, to prepare and to look."""
        session: Any = boto3.session.Session()
        return session.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def bucket(self, *, versioned: bool = False) -> str:
        """A bucket of the test's own."""
        name = f"test-{os.getpid()}-{next(_numbers)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def secrets(self, *, access_key: str = "", secret_key: str = "", token: str = "") -> dict[str, Path]:
        """The credentials as files, for a connection; root's where none are given."""
        wanted = {
            "access_key_file": access_key or self.access_key,
            "secret_key_file": secret_key or self.secret_key,
            **({"session_token_file": token} if token else {}),
        }
        paths = {}
        for name, secret in wanted.items():
            paths[name] = self.folder / f"{name}-{next(_numbers)}"
            paths[name].write_text(secret + "\n")
        return paths

    def assumed(self, statements: list[dict[str, Any]]) -> dict[str, Path]:
        """Credentials that may do what the statements say, and nothing else (STS AssumeRole)."""
        policy = {"Version": "2012-10-17", "Statement": statements}
        answer = self.client("sts").assume_role(
            RoleArn="arn:aws:iam::000000000000:role/remediator",
            RoleSessionName="remediator",
            Policy=json.dumps(policy),
            DurationSeconds=900,
        )["Credentials"]
        return self.secrets(
            access_key=answer["AccessKeyId"],
            secret_key=answer["SecretAccessKey"],
            token=answer["SessionToken"],
        )


@dataclass
class Case:
    """One use of an action, on a bucket of its own.

    Attributes:
        action: the class.
        account: where the bucket is.
        bucket: its name.
        settings: of the connection, beside the buckets.
        params: without connection.
        subject: the parameter that names what is acted on; hostile values are tried on it.
        look: what the action changes, as root sees it.
        done: whether a look shows the effect, given the look before.
        spoil: change what was planned on.
        undone: whether a look shows that it was taken back; None where nothing takes it back.
        irreversible: whether its plan says so.
    """

    action: Any
    account: Account
    bucket: str
    settings: dict[str, Any]
    params: dict[str, Any]
    subject: str
    look: Callable[[], Any]
    done: Callable[[Any, Any], bool]
    spoil: Callable[[], object]
    undone: Callable[[Any, Any], bool] | None = None
    irreversible: bool = False

    def make(self, *, url: str = "", secrets: Mapping[str, Path] | None = None, **others: Any) -> Any:
        """The action, on a connection that allows just this use."""
        settings = {
            "kind": "s3",
            "endpoint_url": url or self.account.url,
            "buckets": {self.bucket: {"prefixes": ["data/"]}},
            "timeout_seconds": 10,
            **(secrets or self.account.secrets()),
            **self.settings,
            **others,
        }
        return self.action(S3Connection.model_validate(settings))

    def parameters(self, **others: Any) -> Any:
        """The validated parameters."""
        return self.action.Params.model_validate(
            {"connection": "store", "bucket": self.bucket, **self.params, **others}
        )


def tree(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def restore_version(account: Account, home: Path) -> Case:
    """An object whose present version is bad; the one before is good."""
    bucket, client = account.bucket(versioned=True), account.client()
    key = "data/best-model.pth"
    client.put_object(Bucket=bucket, Key=key, Body=b"older", ContentType="text/x-test")
    client.put_object(
        Bucket=bucket, Key=key, Body=b"good", ContentType="text/x-test", Metadata={"dice": "0.9"}
    )
    client.put_object(Bucket=bucket, Key=key, Body=b"bad")
    client.put_object(Bucket=bucket, Key=f"{key}.other", Body=b"other")

    def look() -> Any:
        found = client.list_object_versions(Bucket=bucket, Prefix=key)
        head = client.get_object(Bucket=bucket, Key=key)
        now = (head["Body"].read(), head["ContentType"], head["Metadata"].get("dice"))
        return {"now": now, "versions": sorted(v["VersionId"] for v in found["Versions"])}

    return Case(
        RestoreVersion,
        account,
        bucket,
        {},
        {"key": key},
        "key",
        look=look,
        done=lambda before, after: (
            after["now"] == (b"good", "text/x-test", "0.9")
            and set(before["versions"]) < set(after["versions"])
            and len(after["versions"]) == len(before["versions"]) + 1
        ),
        spoil=lambda: client.put_object(Bucket=bucket, Key=key, Body=b"third"),
        undone=lambda before, after: (
            after["now"] == before["now"] and set(before["versions"]) < set(after["versions"])
        ),
    )


def sync_aside(account: Account, home: Path) -> Case:
    """A data set in a bucket, with its manifest, and a live folder with files that are not in it."""
    bucket, client = account.bucket(), account.client()
    files = {
        "a.bin": b"a" * 100_000,
        "sub/b.bin": b"b" * 10,
        "sub/deep/c.bin": b"",
        "d.txt": b"d",
    }
    manifest = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in files.items())
    for name, body in files.items():
        client.put_object(Bucket=bucket, Key=f"data/set/{name}", Body=body)
    client.put_object(Bucket=bucket, Key="data/set/empty/", Body=b"")
    client.put_object(Bucket=bucket, Key="data/set/SHA256SUMS", Body=manifest.encode())
    client.put_object(Bucket=bucket, Key="data/other/x", Body=b"other")
    live = home / "datasets" / "live"
    (live / "sub").mkdir(parents=True)
    (live / "a.bin").write_bytes(b"broken")
    (live / "sub" / "extra.bin").write_bytes(b"extra")
    live.chmod(0o750)
    os.chown(live, 1234, 1234)

    def done(before: Any, after: Any) -> bool:
        asides = list(live.parent.glob("live.aside-*"))
        return (
            after["live"] == {**files, "SHA256SUMS": manifest.encode()}
            and (live / "empty").is_dir()
            and (live.stat().st_mode & 0o777, live.stat().st_uid) == (0o750, 1234)
            and (live / "sub" / "b.bin").stat().st_uid == 1234
            and [tree(aside) for aside in asides] == [before["live"]]
        )

    def spoil() -> None:
        live.rename(live.parent / "by-somebody")
        live.mkdir()
        (live / "a.bin").write_bytes(b"by somebody")

    return Case(
        SyncAside,
        account,
        bucket,
        {"live_folders": {"set": str(live)}},
        {"prefix": "data/set/", "folder": "set", "manifest": "data/set/SHA256SUMS"},
        "prefix",
        look=lambda: {"live": tree(live)},
        done=done,
        spoil=spoil,
        undone=lambda before, after: before == after,
    )


def upload(account: Account, home: Path) -> Case:
    """A dump that is to go off this host."""
    bucket, client = account.bucket(), account.client()
    source = home / "dumps"
    source.mkdir()
    body = b"dump" * 100_000
    (source / "db.dump").write_bytes(body)

    def look() -> Any:
        found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}

    def done(before: Any, after: Any) -> bool:
        (key,) = after
        digest = hashlib.sha256(body).hexdigest()[:16]
        return bool(re.fullmatch(rf"data/dumps/db_\d{{8}}T\d{{6}}Z_{digest}\.dump", key)) and after == {
            key: body
        }

    return Case(
        Upload,
        account,
        bucket,
        {"sources": {"dumps": str(source)}},
        {"prefix": "data/dumps/", "source": "dumps", "file": "db.dump"},
        "prefix",
        look=look,
        done=done,
        spoil=lambda: (source / "db.dump").write_bytes(b"another"),
    )


def put_lifecycle(account: Account, home: Path) -> Case:
    """A bucket that has one rule already."""
    bucket, client = account.bucket(), account.client()

    def put(*days: int) -> None:
        rules = [
            {
                "ID": f"rule-{n}",
                "Status": "Enabled",
                "Filter": {"Prefix": f"other/{n}/"},
                "Expiration": {"Days": d},
            }
            for n, d in enumerate(days)
        ]
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    put(100)

    def look() -> Any:
        found = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        return {rule["ID"]: (rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) for rule in found}

    return Case(
        PutLifecycle,
        account,
        bucket,
        {},
        {"rule_id": "expire-events", "prefix": "data/events/", "expire_days": 365},
        "prefix",
        look=look,
        done=lambda before, after: after == {**before, "expire-events": ("data/events/", 365)},
        spoil=lambda: put(100, 200),
        undone=lambda before, after: before == after,
        irreversible=True,
    )


def restore_from_glacier(account: Account, home: Path) -> Case:
    """An object in Glacier."""
    bucket, client = account.bucket(), account.client()
    key = "data/2025/events.parquet"
    client.put_object(Bucket=bucket, Key=key, Body=b"rows", StorageClass="GLACIER")

    return Case(
        RestoreFromGlacier,
        account,
        bucket,
        {},
        {"keys": [key], "days": 3},
        "keys",
        look=lambda: client.head_object(Bucket=bucket, Key=key).get("Restore", ""),
        done=lambda before, after: (before, bool(after)) == ("", True),
        spoil=lambda: client.put_object(Bucket=bucket, Key=key, Body=b"others", StorageClass="GLACIER"),
    )


MAKERS: dict[str, Callable[[Account, Path], Case]] = {
    "s3.put_lifecycle": put_lifecycle,
    "s3.restore_from_glacier": restore_from_glacier,
    "s3.restore_version": restore_version,
    "s3.sync_aside": sync_aside,
    "s3.upload": upload,
}
ON_MOTO = ("s3.restore_from_glacier",)
