"""The real servers as pytest fixtures. Each xdist worker has its own; the docker tests share one worker."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.alertmanager import AlertmanagerServer
from tests.support.dockerd import DockerEngine
from tests.support.fake_slack import FakeSlack
from tests.support.minio import MinioServer
from tests.support.nginx import NginxServer
from tests.support.postgres import PostgresServer
from tests.support.prometheus import PrometheusServer
from tests.support.redis import RedisServer
from tests.support.redis_exporter import RedisExporter
from tests.support.toxiproxy import ToxiproxyServer

HEAVY = {"docker_engine_once": "docker", "kubernetes_once": "kubernetes"}
"""Fixtures that cost much to start, and the xdist group whose one worker runs all the tests that use them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests that use a heavy server to one worker (with `--dist loadgroup`), so that it starts once."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in HEAVY and not item.get_closest_marker("xdist_group"):
                item.add_marker(pytest.mark.xdist_group(HEAVY[fixture]))


@pytest.fixture(scope="session")
def redis_server_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The worker's redis-server. Tests take `redis_server`, which is this one, emptied."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_server_once: RedisServer) -> RedisServer:
    """An empty redis-server without password, all its users and settings as at the start."""
    redis_server_once.start()
    redis_server_once.empty()
    return redis_server_once


@pytest.fixture
def redis_server_factory(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start redis-servers of one's own: `make(users=..., config=..., password=...)`."""
    with ExitStack() as stack:
        made: list[RedisServer] = []

        def make(**options: Any) -> RedisServer:
            made.append(stack.enter_context(RedisServer(tmp_path / f"redis-{len(made)}", **options)))
            return made[-1]

        yield make


@pytest.fixture
def redis_exporter_factory(tmp_path: Path) -> Iterator[Callable[..., RedisExporter]]:
    """Start exporters: `make(redis_url, flags=...)`."""
    with ExitStack() as stack:
        made: list[RedisExporter] = []

        def make(redis_url: str, *, flags: Sequence[str] = ()) -> RedisExporter:
            folder = tmp_path / f"redis-exporter-{len(made)}"
            made.append(stack.enter_context(RedisExporter(folder, redis_url, flags=flags)))
            return made[-1]

        yield make


@pytest.fixture
def prometheus_server_factory(tmp_path: Path) -> Iterator[Callable[..., PrometheusServer]]:
    """Start Prometheus servers: `make(config, rule_files=..., flags=...)`."""
    with ExitStack() as stack:
        made: list[PrometheusServer] = []

        def make(
            config: Mapping[str, Any], *, rule_files: Sequence[Path] = (), flags: Sequence[str] = ()
        ) -> PrometheusServer:
            folder = tmp_path / f"prometheus-{len(made)}"
            made.append(
                stack.enter_context(PrometheusServer(folder, config, rule_files=rule_files, flags=flags))
            )
            return made[-1]

        yield make


@pytest.fixture
def alertmanager_factory(tmp_path: Path) -> Iterator[Callable[..., AlertmanagerServer]]:
    """Start Alertmanagers: `make(config, flags=..., clustered=..., peers=...)`."""
    with ExitStack() as stack:
        made: list[AlertmanagerServer] = []

        def make(config: Mapping[str, Any] | Path, **options: Any) -> AlertmanagerServer:
            folder = tmp_path / f"alertmanager-{len(made)}"
            made.append(stack.enter_context(AlertmanagerServer(folder, config, **options)))
            return made[-1]

        yield make


@pytest.fixture
def nginx_factory(tmp_path: Path) -> Iterator[Callable[[str], NginxServer]]:
    """Start nginx servers: `make(site)`."""
    with ExitStack() as stack:
        made: list[NginxServer] = []

        def make(site: str) -> NginxServer:
            made.append(stack.enter_context(NginxServer(tmp_path / f"nginx-{len(made)}", site)))
            return made[-1]

        yield make


@pytest.fixture(scope="session")
def postgres_server_once() -> Iterator[PostgresServer]:
    """The worker's PostgreSQL. Tests take `postgres_server` or `postgres_database`."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_server(postgres_server_once: PostgresServer) -> PostgresServer:
    """A running PostgreSQL; its roles are shared by the worker's tests, so name them uniquely."""
    postgres_server_once.start()
    return postgres_server_once


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The `postgresql://` URL, as superuser, of an empty database that is dropped after the test."""
    with postgres_server.database() as name:
        yield postgres_server.dsn(name)


@pytest.fixture(scope="session")
def docker_engine_once() -> Iterator[DockerEngine]:
    """The worker's Docker engine. Tests take `docker_engine`, which is this one, cleaned."""
    engine = DockerEngine()
    try:
        engine.start()
        engine.busybox()
        yield engine
    finally:
        engine.close()


@pytest.fixture
def docker_engine(docker_engine_once: DockerEngine) -> DockerEngine:
    """A Docker engine without containers, its only image BUSYBOX and what earlier tests made."""
    docker_engine_once.start()
    docker_engine_once.clean()
    return docker_engine_once


@pytest.fixture(scope="session")
def minio_server_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """The worker's MinIO. Tests take `minio_server`, and make buckets of their own."""
    with MinioServer(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def minio_server(minio_server_once: MinioServer) -> MinioServer:
    """A running MinIO; its buckets are shared by the worker's tests, so name them uniquely."""
    minio_server_once.start()
    return minio_server_once


@pytest.fixture
def toxiproxy(tmp_path: Path) -> Iterator[ToxiproxyServer]:
    """A Toxiproxy of the test's own."""
    with ToxiproxyServer(tmp_path / "toxiproxy") as server:
        yield server


@pytest.fixture
async def fake_slack() -> AsyncIterator[FakeSlack]:
    """A Slack workspace of the test's own; the test fails if the service broke Slack's contract in passing."""
    async with FakeSlack() as slack:
        yield slack
        assert [] == slack.state.violations
