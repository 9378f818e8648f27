"""Which Redis database, as whom, and what in it may be touched; and what all its actions share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remediator.actions.redis.driver import backoff, exceptions, redis, retry
from remediator.errors import Drifted, OutcomeUnknown, PermanentFailure, Refused, TemporaryFailure

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:_./{}-]{1,200}$")]
"""A key prefix without any character that Redis reads as a pattern."""


class RedisConnection(BaseModel):
    """One Redis database. `prefixes` are the only keys that may be touched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["redis"]
    url: str = Field(
        description="redis:// or rediss:// or unix://, with the database number, without a password"
    )
    username: str | None = None
    password_file: Path | None = Field(default=None, description="read again at each new connection")
    prefixes: tuple[Prefix, ...] = Field(default=(), description="prefixes that may be unlinked")
    dedicated: bool = Field(default=False, description="whether the whole database is a cache of this system")
    timeout_seconds: float = Field(default=5, gt=0, le=60)

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str) -> str:
        if "@" in url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("the URL holds a user or a password; use username and password_file")
        return url


class RedisAction:
    """What all of them share: the connection, and the client that is made of it."""

    Connection: ClassVar[type[BaseModel]] = RedisConnection

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        secret = connection.password_file
        who: Mapping[str, Any] = (
            {"credential_provider": _Password(connection.username, secret)}
            if secret
            else {"username": connection.username}
        )
        self._redis: redis.Redis = redis.Redis.from_url(
            connection.url,
            socket_timeout=connection.timeout_seconds,
            socket_connect_timeout=connection.timeout_seconds,
            # A lost answer is ours to judge: the client must not send a change a second time.
            retry=retry.Retry(backoff.NoBackoff(), 0),
            # RESP2 without CLIENT SETINFO: nothing is sent that the printed privilege does not hold.
            protocol=2,
            driver_info=None,
            encoding_errors="replace",
            **who,
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()

    @property
    def _db(self) -> int:
        return int(self._redis.connection_pool.connection_kwargs.get("db") or 0)

    @property
    def _subject(self) -> str:
        return f"redis {self._connection.url}"

    def _rights(self, *rules: str) -> tuple[str, ...]:
        """These ACL rules, and the SELECT that every connection to another database than 0 begins with."""
        return (*rules, "+select") if self._db else rules

    async def _info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._redis.info(section)
        return found

    async def _connect_afresh(self) -> None:
        """Drop what the pool holds: a server that restarted, or tires of idle clients, has hung up on it."""
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def _run_id(self) -> str:
        """What tells one run of one server from all others. Every use of an action begins here."""
        await self._connect_afresh()
        info = await self._info("server")
        if info.get("redis_mode") == "cluster":
            raise Refused("this is a Redis cluster; its data lie on many nodes and this action sees one")
        return str(info["run_id"])


class _Password:
    """The password of a file, read at each new connection: a `redis.CredentialProvider`."""

    def __init__(self, username: str | None, file: Path) -> None:
        self._username, self._file = username, file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise exceptions.AuthenticationError(
                f"cannot read {self._file}: {type(error).__name__}"
            ) from error
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def same_server(before: Mapping[str, Any], run_id: str) -> None:
    """Raise Drifted unless this is the run of the server that was planned on."""
    if before["server"] != run_id:
        raise Drifted("the Redis server has restarted or is another one than was planned on")


@contextmanager
def looking() -> Iterator[None]:
    """Nothing is changed in here: whatever fails, failed for certain."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
        raise PermanentFailure(f"redis refuses us: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise TemporaryFailure(f"redis does not answer: {error}") from error
    except exceptions.ResponseError as error:
        raise PermanentFailure(f"redis refused: {error}") from error


@contextmanager
def changing(what: str) -> Iterator[None]:
    """One change is sent in here: where no answer came, nobody knows whether it was made."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
        raise PermanentFailure(f"redis refuses us: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise OutcomeUnknown(f"redis stopped answering {what}: {error}") from error
    except exceptions.ResponseError as error:
        raise PermanentFailure(f"redis refused {what}: {error}") from error
