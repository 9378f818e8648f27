"""A test run that is killed leaves no server behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until

REDIS = "from tests.support.redis import RedisServer; server = RedisServer(Path(sys.argv[1]))"
POSTGRES = "from tests.support.postgres import PostgresServer; server = PostgresServer()"
DOCKER = "from tests.support.dockerd import DockerEngine; server = DockerEngine()"
STARTER = """
import sys, time
from pathlib import Path
{server}
server.start()
print(server.pid, server.folder, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(REDIS, id="redis"),
        pytest.param(POSTGRES, id="postgres, as another user"),
        pytest.param(DOCKER, id="dockerd, in namespaces", marks=pytest.mark.xdist_group("docker")),
    ],
)
def test_killed_run_leaves_no_server(server: str, tmp_path: Path) -> None:
    """When the process that started a server is killed, the kernel ends the server, and what it started."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER.format(server=server), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        assert _processes_naming(folder) or Path(f"/proc/{pid}").exists()
        starter.send_signal(signal.SIGKILL)

    until(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the server")
    until(lambda: not _processes_naming(folder), what="the end of its children")
    subprocess.run(["/bin/rm", "-rf", "--", folder], check=True)


def _processes_naming(folder: str) -> list[str]:
    """Return the command lines of the processes that name the folder, other than those of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if folder in line and "time.sleep(600)" not in line:
                found.append(line)
    return found
