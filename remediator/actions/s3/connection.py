"""Which S3 server, as whom, and which buckets, prefixes and local folders may be touched."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remediator.errors import (
    ActionError,
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from remediator.offload import offload
from remediator.rooted import AbsolutePath

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from types_boto3_s3.client import S3Client

_STRICT = ConfigDict(extra="forbid", frozen=True)
T = TypeVar("T")


def _tame(text: str) -> str:
    if text.startswith("/") or "//" in text or any(part in {".", ".."} for part in text.split("/")):
        raise ValueError("expected a key without . or .. or an empty part")
    return text


BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
"""As S3 allows them."""

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.=@+,/-]{1,500}/$"), AfterValidator(_tame)]
"""A folder of keys: it ends in `/`, so that `models/` is never `models-of-others/`. No wildcard, never empty."""

ObjectKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.=@+,:/-]{0,1000}[A-Za-z0-9_.=@+,:-]$"),
    AfterValidator(_tame),
]
"""The key of one object, without any character that S3 or an IAM policy reads as a pattern."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""What the connection calls something. No path."""

StorageClass = Literal[
    "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"
]


class Bucket(BaseModel):
    """What may be touched in one bucket."""

    model_config = _STRICT

    prefixes: tuple[Prefix, ...] = Field(min_length=1, description="of the keys that may be touched")
    min_expire_days: int = Field(
        default=30, ge=1, description="no lifecycle rule expires objects that are younger"
    )


class S3Connection(BaseModel):
    """One S3 server and account. `buckets` say which prefixes may be touched, `folders` where to write on this host."""

    model_config = _STRICT

    kind: Literal["s3"]
    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://[A-Za-z0-9.:\[\]-]+/?$",
        description="of the server; AWS where left out",
    )
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    buckets: Mapping[BucketName, Bucket] = Field(min_length=1)
    live_folders: Mapping[Name, AbsolutePath] = Field(
        default={}, description="folders of this host that a sync may replace"
    )
    sources: Mapping[Name, AbsolutePath] = Field(
        default={}, description="folders of this host whose files may be uploaded"
    )
    access_key_file: Path | None = Field(
        default=None, description="read at use; where left out, what AWS's own chain of credentials finds"
    )
    secret_key_file: Path | None = None
    session_token_file: Path | None = None
    timeout_seconds: float = Field(default=60, gt=0, le=600, description="without any byte of an answer")

    @field_validator("endpoint_url")
    @classmethod
    def _plain(cls, url: str | None) -> str | None:
        return url.rstrip("/") if url else url


class S3Action:
    """What all of them share: the connection, and a client that is made again when its credentials are."""

    Connection: ClassVar[type[BaseModel]] = S3Connection

    def __init__(self, connection: S3Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._made: tuple[tuple[str | None, ...], S3Client] | None = None

    async def close(self) -> None:
        """Close the client."""
        if self._made is not None:
            await offload(self._made[1].close)
            self._made = None

    @property
    def _s3(self) -> S3Client:
        """The client; only for use on the pool, since making one reads files."""
        with self._lock:
            secrets = tuple(
                _secret(file)
                for file in (
                    self._connection.access_key_file,
                    self._connection.secret_key_file,
                    self._connection.session_token_file,
                )
            )
            if self._made is None or self._made[0] != secrets:
                if self._made is not None:
                    self._made[1].close()
                self._made = (secrets, _client(self._connection, *secrets))
            return self._made[1]

    def _bucket(self, name: str, *keys: str) -> Bucket:
        """What the connection allows in a bucket, all of whose given keys or prefixes must be among it."""
        bucket = allowed("buckets", name, self._connection.buckets)
        for key in keys:
            if not any(key.startswith(prefix) for prefix in bucket.prefixes):
                told = ", ".join(bucket.prefixes)
                raise Refused(f"{key} is outside the prefixes of {name} that the connection allows ({told})")
        return bucket


def _client(
    connection: S3Connection, access_key: str | None, secret_key: str | None, token: str | None
) -> S3Client:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connection.timeout_seconds,
        read_timeout=connection.timeout_seconds,
        # A lost answer is ours to judge: the client must not send a change a second time.
        retries={"total_max_attempts": 1, "mode": "standard"},
        signature_version="s3v4",
        # What is read we check ourselves: the client's own check trips over an error that carries a checksum.
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if connection.endpoint_url else {},
    )
    return boto3.session.Session().client(
        "s3",
        region_name=connection.region,
        endpoint_url=connection.endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        config=config,
    )


def _secret(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip("\r\n ")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentFailure(f"cannot read {file}: {type(error).__name__}") from error


def allowed(what: str, name: str, among: Mapping[str, T]) -> T:
    """What the connection means by that name.

    Raises:
        Refused: when it means nothing.
    """
    if name not in among:
        raise Refused(
            f"{name} is not among the {what} that the connection allows ({', '.join(among) or 'none'})"
        )
    return among[name]


def url_of(bucket: str, key: str) -> str:
    """An object, as a person writes it."""
    return f"s3://{bucket}/{key}"


def statement(actions: tuple[str, ...], bucket: str, key: str = "", **condition: Any) -> dict[str, Any]:
    """An IAM statement on a bucket, or on a key or `prefix/*` in it."""
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    told = {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": [resource]}
    return {**told, "Condition": condition} if condition else told


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Nothing is changed in here: whatever fails, failed for certain."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        IncompleteReadError,
    )
    from botocore.exceptions import ConnectionError as Unreachable

    try:
        yield
    except ClientError as error:
        raise _answered(error, what, changed=False) from error
    except (Unreachable, HTTPClientError, IncompleteReadError) as error:
        raise TemporaryFailure(f"S3 does not answer ({what}): {type(error).__name__}") from error
    except BotoCoreError as error:
        raise PermanentFailure(f"{what}: {error}") from error


@contextmanager
def changing(what: str) -> Iterator[None]:
    """One change is sent in here: where no answer came, nobody knows whether it was made."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as Unreachable

    try:
        yield
    except ClientError as error:
        raise _answered(error, what, changed=True) from error
    except Unreachable as error:
        raise TemporaryFailure(f"S3 cannot be reached ({what}): {type(error).__name__}") from error
    except HTTPClientError as error:
        raise OutcomeUnknown(f"S3 stopped answering ({what}): {type(error).__name__}") from error
    except BotoCoreError as error:
        raise PermanentFailure(f"{what}: {error}") from error


_STALE = frozenset(
    {
        "PreconditionFailed",
        "ConditionalRequestConflict",
        "BadDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "RequestTimeTooSkewed", "SlowDownRead", "SlowDownWrite"})


def code(error: ClientError) -> str:
    """What S3 calls the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(error: ClientError, what: str, *, changed: bool) -> ActionError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    name = code(error)
    told = f"S3 answered {status} {name} ({what})"
    if status == 412 or name in _STALE:
        return Drifted(told)
    if status == 404 and name != "NoSuchUpload":
        return NothingSelected(told)
    if name in _BUSY or status in (429, 503):
        return TemporaryFailure(told)
    if status >= 500:
        return OutcomeUnknown(told) if changed else TemporaryFailure(told)
    return PermanentFailure(told)
