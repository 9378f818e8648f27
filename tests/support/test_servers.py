"""The tests' servers: each starts, answers, crashes, comes back and stops."""

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import boto3
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.alertmanager import AlertmanagerServer
from tests.support.dockerd import BUSYBOX, DockerEngine
from tests.support.exporters import BlackboxExporter, NodeExporter, Pushgateway
from tests.support.minio import MinioServer
from tests.support.nginx import NginxServer
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.processes import MissingProgramError, Server, ServerFailedError, program
from tests.support.prometheus import PrometheusServer
from tests.support.redis import RedisServer
from tests.support.redis_exporter import RedisExporter
from tests.support.tools.build import tool
from tests.support.toxiproxy import ToxiproxyServer
from tests.support.waiting import NeverHappenedError, eventually, until


def test_ports_differ() -> None:
    """A port that was handed out is not handed out again, though nobody listens on it yet."""
    ports = [free_port() for _ in range(50)]

    assert len(ports) == len(set(ports))


def test_missing_program_says_how_to_get_it() -> None:
    """A missing program names the Debian package that brings it."""
    with pytest.raises(MissingProgramError, match="apt-get install no-such-package"):
        program("no-such-program", package="no-such-package")


def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    """A server that ends at once fails the start with what it wrote."""
    server = Server(["/bin/ls", "/no/such/file"], name="ls", folder=tmp_path, ready=lambda: False)

    with pytest.raises(ServerFailedError, match="No such file or directory"):
        server.start()


def test_hanging_start_is_given_up(tmp_path: Path) -> None:
    """A server that never answers is given up after its time, and not left running."""
    server = Server(["/bin/cat", "/dev/zero"], name="cat", folder=tmp_path, ready=lambda: False, within=0.1)
    server.log = Path("/dev/null")

    with pytest.raises(ServerFailedError, match=r"did not answer within 0\.1 s"):
        server.start()

    assert not server.running


def test_until_gives_up() -> None:
    """Waiting ends at the deadline and tells what was seen last."""
    with pytest.raises(NeverHappenedError, match=r"the tide did not happen within 0\.05 s; last seen: 0"):
        until(lambda: 0, within=0.05, what="the tide")


def test_redis(redis_server: RedisServer) -> None:
    """Redis keeps a key while it runs, and a crash loses it, since nothing is saved."""
    with redis_server.client() as client:
        client.set("a", "1")
        assert client.get("a") == "1"

    redis_server.kill()
    assert not redis_server.running

    redis_server.start()
    with redis_server.client() as client:
        assert client.get("a") is None


def test_redis_users(redis_server_factory: Callable[..., RedisServer]) -> None:
    """A user of the ACL may do what its line says and nothing else."""
    server = redis_server_factory(users=["janitor on >secret ~seg:* +ping +get"])

    with server.client(username="janitor", password="secret") as client:
        assert client.get("seg:1") is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get("other:1")


async def test_redis_exporter_to_prometheus(
    redis_server: RedisServer,
    redis_exporter_factory: Callable[..., RedisExporter],
    prometheus_server_factory: Callable[..., PrometheusServer],
    alertmanager_factory: Callable[..., AlertmanagerServer],
    tmp_path: Path,
) -> None:
    """A key in Redis becomes a sample in Prometheus, an alert, and a notification group in Alertmanager."""
    exporter = redis_exporter_factory(redis_server.url())
    alertmanager = alertmanager_factory({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]})
    rules = tmp_path / "rules.yml"
    rules.write_text(
        "groups: [{name: g, interval: 1s, rules: [{alert: HasKeys, expr: 'sum(redis_db_keys) > 0'}]}]\n"
    )
    prometheus = prometheus_server_factory(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "redis", "static_configs": [{"targets": [exporter.address]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]},
        },
        rule_files=[rules],
    )
    with redis_server.client() as client:
        client.set("a", "1")

    alert = await prometheus.firing("HasKeys")
    found = await eventually(lambda: alertmanager.alerts('alertname="HasKeys"'), within=20)

    assert alert["labels"] == {"alertname": "HasKeys"}
    assert [one["labels"] for one in found] == [{"alertname": "HasKeys"}]
    await prometheus.until("sum(redis_db_keys)", lambda samples: [one.value for one in samples] == [1.0])


@pytest.mark.parametrize("names", [("prometheus-alertmanager",), ("built",)], ids=["debian", "built"])
async def test_alertmanager(
    alertmanager_factory: Callable[..., AlertmanagerServer], names: tuple[str, ...]
) -> None:
    """An alert that is posted is active, silenced after a silence, and active again when that is expired."""
    config = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    names = (str(tool("alertmanager")),) if names == ("built",) else names
    server = alertmanager_factory(config, names=names)

    async def state() -> str:
        alerts = await server.alerts('alertname="Hot"')
        return str(alerts[0]["status"]["state"]) if alerts else ""

    async def is_active() -> bool:
        return await state() == "active"

    async def is_suppressed() -> bool:
        return await state() == "suppressed"

    await server.fire("Hot", instance="a")
    await eventually(is_active)
    silence = await server.silence(alertname="Hot")
    await eventually(is_suppressed)
    await server.expire(silence)
    await eventually(is_active)

    assert [one["status"]["state"] for one in await server.silences()] == ["expired"]


async def test_alertmanager_peers(alertmanager_factory: Callable[..., AlertmanagerServer]) -> None:
    """Two peers find each other, so that a silence at one is known to the other."""
    config = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    flags = ["--cluster.settle-timeout=1s", "--cluster.pushpull-interval=1s"]
    one = alertmanager_factory(config, clustered=True, flags=flags)
    two = alertmanager_factory(config, peers=[one.cluster_address], flags=flags)

    silence = await one.silence(alertname="Hot")
    found = await eventually(two.silences, within=20)

    assert [known["id"] for known in found] == [silence]


def test_nginx(nginx_factory: Callable[[str], NginxServer]) -> None:
    """Nginx serves its site, takes over a changed one, and tells a wrong one."""
    site = 'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "%s"; }} }}'
    server = nginx_factory(site % "one")

    def body() -> bytes:
        with urllib.request.urlopen(server.url, timeout=5) as answer:
            return bytes(answer.read())

    assert body() == b"one"

    server.write_site("default", site % "two")
    assert server.check()[0]
    server.reload()
    until(lambda: body() == b"two", what="the new site")

    server.write_site("default", "nonsense;")
    assert server.check()[0] is False


def test_postgres(postgres_server: PostgresServer) -> None:
    """Each test has a database of its own, which survives a crash of the server and is dropped at the end."""
    with postgres_server.database() as name:
        with psycopg.connect(postgres_server.dsn(name)) as link:
            link.execute("CREATE TABLE t AS SELECT 1 AS a")
        postgres_server.kill()
        postgres_server.start()
        with psycopg.connect(postgres_server.dsn(name)) as link:
            assert link.execute("SELECT a FROM t").fetchall() == [(1,)]

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres_server.dsn(name))


def test_docker(docker_engine: DockerEngine) -> None:
    """A container of the local image serves on a published port that the test can reach."""
    client = docker_engine.client()
    try:
        container = client.containers.run(
            BUSYBOX,
            ["/bin/httpd", "-f", "-p", "8080", "-h", "/etc"],
            detach=True,
            ports={"8080/tcp": None},
            init=False,
        )
        address = docker_engine.published(str(container.id), 8080)

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://{address}/hostname", timeout=2) as answer:
                    return bytes(answer.read()).strip() == str(container.id)[:12].encode()
            except OSError:
                return False

        until(answers, what="the container's answer")
    finally:
        client.close()


def test_compose(docker_engine: DockerEngine, tmp_path: Path) -> None:
    """Docker Compose, built by us, starts a project of two containers on the engine."""
    project = tmp_path / "docker-compose.yml"
    project.write_text(
        f"services: {{worker: {{image: '{BUSYBOX}', command: [/bin/sleep, '1000'], deploy: {{replicas: 2}}}}}}\n"
    )
    compose = [str(tool("docker-compose")), "--file", str(project), "--project-name", "test"]
    environment = {**os.environ, "DOCKER_HOST": docker_engine.base_url}

    subprocess.run([*compose, "up", "--detach"], env=environment, check=True, capture_output=True, timeout=60)

    client = docker_engine.client()
    try:
        names = sorted(str(container.name) for container in client.containers.list())
    finally:
        client.close()
    assert ["test-worker-1", "test-worker-2"] == names


def test_docker_engine_crash(docker_engine: DockerEngine) -> None:
    """After a crash nothing of it runs, and the engine comes back on the same socket with the same containers, which
    have ended.
    """
    client = docker_engine.client()
    try:
        container = client.containers.run(BUSYBOX, ["/bin/sleep", "1000"], detach=True, name="sleeper")
        docker_engine.kill()
        left = _processes_of(str(docker_engine.folder))
        docker_engine.start()
        known = client.containers.get("sleeper")

        assert (known.id, known.status) == (container.id, "exited")
        assert [] == left
    finally:
        client.close()


def _processes_of(folder: str) -> list[str]:
    """The command lines of processes that name a folder, such as a containerd that outlived its dockerd."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if folder in line]


def test_exporters(nginx_factory: Callable[[str], NginxServer], tmp_path: Path) -> None:
    """The node exporter reads text files, the blackbox exporter probes, the pushgateway keeps what is pushed."""
    site = nginx_factory("server {{ listen 127.0.0.1:{port}; location / {{ return 200 fine; }} }}")
    node = NodeExporter(tmp_path / "node", flags=["--collector.disable-defaults", "--collector.textfile"])
    blackbox = BlackboxExporter(tmp_path / "blackbox", {"http": {"prober": "http", "timeout": "2s"}})
    push = Pushgateway(tmp_path / "push")
    (node.textfiles / "jobs.prom").write_text("jobs_done 3\n")

    def get(url: str, data: bytes | None = None) -> str:
        with urllib.request.urlopen(url, data=data, timeout=5) as answer:
            return str(answer.read().decode())

    with node, blackbox, push:
        assert "jobs_done 3" in get(f"http://{node.address}/metrics")
        assert "probe_success 1" in get(f"http://{blackbox.address}/probe?module=http&target={site.url}")
        get(f"http://{push.address}/metrics/job/nightly", data=b"backup_bytes 7\n")
        assert 'backup_bytes{instance="",job="nightly"} 7' in get(f"http://{push.address}/metrics")


async def test_toxiproxy(toxiproxy: ToxiproxyServer, redis_server: RedisServer) -> None:
    """A line to Redis works, breaks when it is cut, works when it is mended, and is silent when it is poisoned."""
    host, port = (await toxiproxy.proxy("redis", redis_server.address)).split(":")
    client = redis.Redis(host=host, port=int(port), socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
    try:
        assert client.ping() is True

        await toxiproxy.cut("redis")
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()

        await toxiproxy.mend("redis")
        assert client.ping() is True

        await toxiproxy.poison("redis", "timeout", {"timeout": 0})
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
    finally:
        client.close()


def test_minio(minio_server: MinioServer) -> None:
    """A versioned bucket keeps both versions of an object, over a crash of the server too."""
    client = boto3.client(
        "s3",
        endpoint_url=minio_server.url,
        aws_access_key_id=minio_server.access_key,
        aws_secret_access_key=minio_server.secret_key,
        region_name=minio_server.region,
    )
    client.create_bucket(Bucket="test-versions")
    client.put_bucket_versioning(Bucket="test-versions", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        client.put_object(Bucket="test-versions", Key="model", Body=body)
    minio_server.kill()
    minio_server.start()

    found = client.list_object_versions(Bucket="test-versions")["Versions"]

    assert [one["IsLatest"] for one in found] == [True, False]
    client.close()
