"""A program that is not on PATH runs in a container, and neither the tests nor a person see a difference."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support import containerised
from tests.support.dockerd import DockerEngine
from tests.support.nginx import NginxServer
from tests.support.postgres import PostgresServer
from tests.support.processes import MissingProgramError, ServerFailedError, http_answers, program
from tests.support.prometheus import PrometheusServer
from tests.support.redis import RedisServer
from tests.support.rootfs import rootfs
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
REDIS, PROMETHEUS = "redis:7.2", "test/prometheus:2"
pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.timeout(180)]


class NeighbourEngine(DockerEngine):
    """An engine as a machine has it: in the machine's own network, which it leaves as it is."""

    def __init__(self) -> None:
        super().__init__(flags=["--bridge=none", "--iptables=false", "--ip-forward=false"])
        self._argv.remove("--net")

    def _started(self) -> None:
        """There is nothing to join."""


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """An engine that has Debian's programs as the images that the table names, or the environment."""
    found = NeighbourEngine()
    try:
        found.start()
        client = found.client()
        for image, inside, names, trees in _images():
            paths = {f"{inside}/{name}": Path(program(name, package=name)) for name in names}
            paths["/bin/sh"] = Path("/bin/sh")  # initdb starts postgres by way of it
            made = rootfs(paths, trees=trees)
            path = [f"ENV PATH={inside}:/bin"]
            name, tag = image.split(":")
            client.api.import_image_from_data(made, name, tag, changes=path)
        client.close()
        yield found
    finally:
        found.close()


def _images() -> Iterator[tuple[str, str, tuple[str, ...], list[Path]]]:
    """Each image's name, where in it the programs are, which, and what they need beside libraries."""
    yield REDIS, "/usr/bin", ("redis-server",), []
    yield PROMETHEUS, "/bin", ("prometheus", "promtool"), []
    yield "nginx:1.22", "/usr/sbin", ("nginx",), []
    home = Path(program("postgres", package="postgresql")).resolve().parents[1]
    share = Path("/usr/share/postgresql") / home.name
    shared = [home / "lib", share, Path("/usr/share/zoneinfo"), Path("/usr/lib/locale")]
    yield "postgres:15", str(home / "bin"), ("postgres", "initdb"), shared


@pytest.fixture
def bare(
    engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[docker.DockerClient]:
    """A machine without the tests' programs, but with a Docker engine; afterwards no container is left."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("setpriv", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    engine.start()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DOCKER_HOST", engine.base_url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("REMEDIATOR_TEST_IMAGE_PROMETHEUS", PROMETHEUS)
    # Of these the Debian package puts the programs where they are found without PATH.
    monkeypatch.setenv("REMEDIATOR_TEST_CONTAINED", "nginx,postgres,initdb")
    containerised.engine_answers.cache_clear()
    client = engine.client()
    try:
        yield client
        left = [container.name for container in client.containers.list(all=True)]
    finally:
        client.close()
        containerised.engine_answers.cache_clear()
    assert [] == left


def test_redis_is_a_container(bare: docker.DockerClient, tmp_path: Path) -> None:
    """It answers, its pid is a redis-server's in that image, and its log is where a log is; stopped, it is gone."""
    with RedisServer(tmp_path / "redis") as server:
        names = [(one.name, one.attrs["Config"]["Image"]) for one in bare.containers.list()]
        with server.client() as link:
            answered = link.ping()
        told = Path(f"/proc/{server.pid}/comm").read_text().strip()
        log = server.log.read_text()
        pid = server.pid

    assert [(server._container, REDIS)] == names
    assert answered
    assert "redis-server" == told
    assert "Ready to accept connections" in log
    assert not Path(f"/proc/{pid}").exists()


def test_a_crash_is_a_crash(bare: docker.DockerClient, tmp_path: Path) -> None:
    """Killed, it is gone before `kill` returns, and comes back on the same port with what was written down."""
    with RedisServer(tmp_path / "redis", config={"appendonly": "yes", "appendfsync": "always"}) as server:
        with server.client() as link:
            link.set("one", "1")
        server.kill()
        seen = server.running, bare.containers.list(all=True)
        server.start()
        with server.client() as link:
            kept = link.get("one")

    assert (False, []) == seen
    assert "1" == kept


def test_a_frozen_one_hangs_and_goes_on(bare: docker.DockerClient, tmp_path: Path) -> None:
    """Frozen, it takes connections and answers none; thawed, it answers."""
    with RedisServer(tmp_path / "redis") as server:
        server.freeze()
        frozen = server._pongs(), server.running
        server.thaw()
        thawed = server._pongs()

    assert (False, True) == frozen
    assert thawed


def test_one_that_ends_by_itself_is_seen_to_end(bare: docker.DockerClient, tmp_path: Path) -> None:
    """A configuration that the program refuses fails the start with the program's status and words."""
    with pytest.raises(ServerFailedError, match=r"(?s)redis-server ended with 1\n.*no-such-directive"):
        RedisServer(tmp_path / "redis", config={"no-such-directive": "1"}).start()


def test_prometheus_is_a_container_of_the_image_that_the_environment_names(
    bare: docker.DockerClient, tmp_path: Path
) -> None:
    """It reads the shipped rules where they lie and answers; the image is the environment's, not the table's."""
    rules = sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
    with PrometheusServer(tmp_path / "prometheus", {}, rule_files=rules) as server:
        images = [one.attrs["Config"]["Image"] for one in bare.containers.list()]
        ready = http_answers(f"{server.url}/-/ready")

    assert [PROMETHEUS] == images
    assert ready


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("groups: []", (0, "SUCCESS: 0 rules found"), id="good"),
        pytest.param("groups: 1", (1, "FAILED"), id="bad"),
    ],
)
def test_a_command_runs_and_tells_as_ever(
    bare: docker.DockerClient, tmp_path: Path, text: str, expected: tuple[int, str]
) -> None:
    """The status of promtool and its words, each on its own stream, come through."""
    file = tmp_path / "rules.yml"
    file.write_text(text)
    argv = [program("promtool", package="prometheus"), "check", "rules", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    assert expected[0] == done.returncode
    assert expected[1] in (done.stdout if expected[0] == 0 else done.stderr)


def test_the_command_line_takes_the_path_first(bare: docker.DockerClient, tmp_path: Path) -> None:
    """`python -m tests.support.containerised` runs what is on PATH, and what is not, in a container."""
    file = "prometheus/rules/30-common.yml"
    argv = [sys.executable, "-m", "tests.support.containerised", "promtool", "check", "rules", file]
    contained = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    ours = tmp_path / "bin" / "promtool"
    ours.write_text("#!/usr/bin/env -S echo this one:\n")
    ours.chmod(0o755)
    (tmp_path / "bin" / "echo").symlink_to("/bin/echo")
    installed = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)

    assert (0, True) == (contained.returncode, f"Checking {file}\n  SUCCESS: " in contained.stdout)
    assert f"this one: {ours} check rules {file}\n" == installed.stdout


def test_nginx_is_checked_and_reloaded(bare: docker.DockerClient, tmp_path: Path) -> None:
    """A second program of the same image tells what it thinks of the files; SIGHUP has them taken over."""
    with NginxServer(tmp_path / "nginx", "server {{ listen 127.0.0.1:{port}; return 200 one; }}") as server:
        images = [one.attrs["Config"]["Image"] for one in bare.containers.list()]
        written = int((server.folder / "nginx.pid").read_text())
        known = containerised._pids(server.pid)
        server.write_site("default", "server {{ listen 127.0.0.1:{port}; return 500; nonsense; }}")
        bad = server.check()
        server.write_site("default", "server {{ listen 127.0.0.1:{port}; return 500; }}")
        good = server.check()
        server.reload()
        until(lambda: not http_answers(server.url), what="the new configuration")

    assert ["nginx:1.22"] == images
    assert written in known
    assert (False, True) == (bad[0], 'unknown directive "nonsense"' in bad[1])
    assert good[0]


def test_postgres_is_another_user(bare: docker.DockerClient) -> None:
    """What must not be root is not root in its container either: its files and its process are the other user's."""
    server = PostgresServer()
    try:
        with server:
            owner = server.data.stat().st_uid
            runs_as = Path(f"/proc/{server.pid}").stat().st_uid
            images = [one.attrs["Config"]["Image"] for one in bare.containers.list()]
    finally:
        server.close()

    assert (os.geteuid() != 0) or 0 != owner == runs_as
    assert ["postgres:15"] == images


STARTER = """
import sys, time
from pathlib import Path
from tests.support.redis import RedisServer
server = RedisServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_run_leaves_no_container(bare: docker.DockerClient, tmp_path: Path) -> None:
    """When the process that started a server is killed, the guardian removes the container."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "redis")], stdout=subprocess.PIPE, cwd=ROOT
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert 1 == len(bare.containers.list())
        starter.send_signal(signal.SIGKILL)

    until(lambda: not bare.containers.list(all=True), what="the end of the container")
    assert not Path(f"/proc/{pid}").exists()


def test_a_missing_image_is_told(
    bare: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that cannot be reached is an error with the image's name, not a wait for the deadline."""
    monkeypatch.setenv("REMEDIATOR_TEST_IMAGE_REDIS", "127.0.0.1:9/none:1")

    with pytest.raises(
        ServerFailedError, match=r"(?s)ended with 125.*in a container of 127\.0\.0\.1:9/none:1"
    ):
        RedisServer(tmp_path / "redis").start()


def test_neither_a_program_nor_an_image(bare: docker.DockerClient) -> None:
    """What only the host itself can do is still asked for by its Debian package."""
    with pytest.raises(MissingProgramError, match="apt-get install busybox-static"):
        program("busybox", package="busybox-static")


def test_neither_a_program_nor_an_engine(
    bare: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an engine the error is what it was."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    containerised.engine_answers.cache_clear()

    with pytest.raises(MissingProgramError, match="apt-get install redis-server"):
        program("redis-server", package="redis-server")
