"""A real redis-server of its own for a test."""

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from tests.support.ports import free_port
from tests.support.processes import Server, program


class RedisServer(Server):
    """redis-server on a free loopback port.

    `users` are ACL lines without the word `user`, such as `"janitor on >secret ~seg:* +scan +unlink"`; a line for
    `default` replaces the all-powerful default user. `config` are further directives of redis.conf.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: Sequence[str] = (),
        config: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> None:
        self.port = free_port()
        self.password = password
        folder.mkdir(parents=True, exist_ok=True)
        directives = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
            **({"requirepass": password} if password else {}),
            **(config or {}),
        }
        path = folder / "redis.conf"
        lines = [f"{name} {value}" for name, value in directives.items()] + [f"user {line}" for line in users]
        path.write_text("\n".join(lines) + "\n")
        super().__init__(
            [program("redis-server", package="redis-server"), str(path)],
            name="redis-server",
            folder=folder,
            ready=self._pongs,
        )

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def url(self, *, db: int = 0, username: str = "", password: str | None = None) -> str:
        """Return a `redis://` URL; without a username it is the default user's."""
        secret = password if password is not None else (self.password or "")
        who = f"{username}:{secret}@" if username or secret else ""
        return f"redis://{who}{self.address}/{db}"

    def client(self, *, db: int = 0, username: str = "", password: str | None = None) -> redis.Redis:
        """Return a synchronous client, for a test to prepare and to look at the data."""
        return redis.Redis.from_url(
            self.url(db=db, username=username, password=password), decode_responses=True
        )

    def empty(self) -> None:
        """Forget every key, client statistic and slow-log entry, so that the next test starts afresh."""
        with self.client() as client:
            client.flushall()
            client.slowlog_reset()
            client.config_resetstat()

    def _pongs(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
        except OSError:
            return False
