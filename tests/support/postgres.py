"""A real PostgreSQL of its own for the tests of one worker, with a fresh database for each test."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.ports import free_port
from tests.support.processes import Server, ServerFailedError, as_user, program

SETTINGS = {
    # A test's data need not survive a power cut; what the tests show is what survives kill -9, which this does.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "wal_level": "logical",
    "max_prepared_transactions": "10",
    "autovacuum": "off",
    "log_min_duration_statement": "-1",
}


class PostgresServer(Server):
    """postgres with a cluster of its own, its superuser `postgres` and a password for everything.

    PostgreSQL refuses to run as root, so for root it runs as the user `postgres` (or `nobody`), and its data lie in a
    folder under the system's temp dir, since pytest's own are closed to other users. `close` removes the folder.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.user = "postgres"
        folder = Path(tempfile.mkdtemp(prefix="remediator-test-pg-"))
        self.data = folder / "data"
        privileges = _unprivileged(folder)
        _initdb(folder, self.data, self.password, privileges)
        options = {**SETTINGS, "unix_socket_directories": str(folder), **(settings or {})}
        super().__init__(
            [
                program("postgres", package="postgresql"),
                "-D",
                str(self.data),
                "-h",
                "127.0.0.1",
                "-p",
                str(self.port),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            name="postgres",
            folder=folder,
            ready=self._answers,
            privileges=privileges,
        )

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def dsn(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """Return a `postgresql://` URL, the superuser's unless another user is named."""
        who, secret = (user, password or "") if user else (self.user, self.password)
        return f"postgresql://{who}:{secret}@{self.address}/{database}"

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Make a database for one test (a copy of `template`), give its name, and drop it afterwards."""
        name = f"test_{secrets.token_hex(6)}"
        self.run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        try:
            yield name
        finally:
            self.start()  # the test may have killed it
            self.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def run(self, statement: sql.Composed, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser, outside a transaction, and return its rows, if it has any."""
        with psycopg.connect(self.dsn(database), autocommit=True) as link:
            cursor = link.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self, within: float = 10.0) -> None:
        """Stop it, not waiting for clients (SIGINT: PostgreSQL's fast shutdown)."""
        if self.running:
            self.send(signal.SIGINT)
        super().stop(within)

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False


def _unprivileged(folder: Path) -> list[str]:
    """Give the folder to a user that may run PostgreSQL, and return how to become that user."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        return [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    raise ServerFailedError("PostgreSQL refuses root, and there is neither a user postgres nor nobody")


def _initdb(folder: Path, data: Path, password: str, privileges: list[str]) -> None:
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    argv = [
        program("initdb", package="postgresql"),
        f"--pgdata={data}",
        "--username=postgres",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ]
    done = subprocess.run(
        as_user(privileges, argv), capture_output=True, text=True, check=False, timeout=120, cwd=folder
    )
    secret.unlink()
    if done.returncode != 0:
        raise ServerFailedError(f"initdb ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
