"""A program that is not on PATH, run in a container instead: the same arguments, files, user, network and signals.

`launcher` gives a file that is started like the program. It runs the container in the foreground: what the program
prints it prints, the signals that it gets it passes on, and it ends as the program ended. The container sees the
host's network and processes, this tree and the folder for temporary files at their own paths, and nothing else.

    python -m tests.support.containerised promtool check rules FILE...    from PATH, or else in a container

Needs an engine of this very host (not a virtual machine's, and not a rootless one), since network and files are shared.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.types import LogConfig

from tests.support.images import Image, image_of
from tests.support.waiting import NeverHappenedError, until

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = "remediator-test-launchers"
CONTAINER, USER, ENV = "--container=", "--container-user=", "--container-env="
"""What a launcher may be told before the program's own arguments: the container's name, `uid:gid`, and `NAME=value`."""

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
NOT_STARTED = 125
"""The exit status that `docker run` has too when there was no container to run."""

LAUNCHER = """\
#!{python}
import sys
sys.path.insert(0, {root!r})
from tests.support.containerised import run
sys.exit(run({name!r}, sys.argv[1:]))
"""


@functools.cache
def engine_answers() -> bool:
    """Tell whether there is a Docker engine, where DOCKER_HOST or else Docker's own habit says."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if address.startswith("unix://") and not Path(address.removeprefix("unix://")).exists():
        return False  # asked all the same, docker's library would leave a socket open
    try:
        client = docker.from_env(timeout=10)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def launcher(*names: str) -> str | None:
    """Return the file that runs the first of these programs for which there are an image and an engine."""
    for name in names:
        if image_of(name) and engine_answers():
            return str(_launcher(name))
    return None


def is_wanted(name: str) -> bool:
    """Tell whether somebody wants a program in a container although it is installed."""
    return name in os.environ.get("REMEDIATOR_TEST_CONTAINED", "").split(",")


def is_launcher(path: str) -> bool:
    """Tell whether a program, as `launcher` gave it, will run in a container."""
    return LAUNCHERS in Path(path).parts


def _launcher(name: str) -> Path:
    """Write the file, unless it is there: for this Python and this tree, of which there may be several."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    mark = hashlib.sha256(f"{sys.executable}\n{ROOT}\n{LAUNCHER}".encode()).hexdigest()[:12]
    path = base / LAUNCHERS / mark / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{name}-{os.getpid()}")
        partial.write_text(LAUNCHER.format(python=sys.executable, root=str(ROOT), name=name))
        partial.chmod(0o755)
        partial.rename(path)
    return path


# for those who started one


def send(container: str, number: int) -> bool:
    """Send the program a signal; False if its container is not there or does not run."""
    client = docker.from_env(timeout=30)
    try:
        client.api.kill(container, number)
    except APIError:
        return False
    finally:
        client.close()
    return True


def pid_in(container: str) -> int:
    """Return the program's pid as we see it, or 0 while there is none; the engine's own may be another one."""
    client = docker.from_env(timeout=30)
    try:
        state = client.api.inspect_container(container)
    except NotFound:
        return 0
    finally:
        client.close()
    named = int(state["State"]["Pid"])
    found = [pid for pid in _processes_of(str(state["Id"])) if named in _pids(pid)]
    return found[0] if found else 0


def _processes_of(container_id: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):  # it has ended meanwhile
            if container_id in path.read_text():
                found.append(int(path.parent.name))
    return found


def _pids(pid: int) -> list[int]:
    """Return the numbers that a process has, in our pid namespace and in those within."""
    with suppress(OSError):
        line = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0]
        return [int(number) for number in line.split()]
    return []


# the launcher itself


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a program in a container until it ends, and return its exit status."""
    image = image_of(name)
    if image is None:
        print(f"no image brings {name}", file=sys.stderr)
        return NOT_STARTED
    own, rest = _own_options(arguments)
    container = own.get(CONTAINER) or f"remediator-test-{name}-{os.getpid()}"
    with _Guardian(container) as guardian:
        # Blocked until there is somebody to pass them on to.
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        try:
            return _attended(_started(image, name, container, own, rest))
        except DockerException as error:
            print(f"{name} cannot be run in a container of {image.wanted}: {error}", file=sys.stderr)
            return NOT_STARTED
        finally:
            _remove(container)
            guardian.dismiss()


def _own_options(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    own: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith((CONTAINER, USER, ENV)):
        option, _, value = rest.pop(0).partition("=")
        if option + "=" == ENV:
            option, _, value = f"{ENV}{value}".rpartition("=")
            own[option] = value
        else:
            own[option + "="] = value
    return own, rest


def _started(
    image: Image, name: str, container: str, own: Mapping[str, str], arguments: Sequence[str]
) -> Any:
    # Its reaper is a container more; our guardian does what it would. Read when it is imported.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer

    made = DockerContainer(image.wanted, name=container).with_kwargs(
        entrypoint=[image.programs[name]],
        network="host",
        pid_mode="host",  # a pid file has to mean the same inside and outside
        user=own.get(USER, f"{os.geteuid()}:{os.getegid()}"),
        working_dir=str(Path.cwd()),
        security_opt=["label=disable"],  # SELinux would keep our files from it
        log_config=LogConfig(type=LogConfig.types.JSON),
    )
    made.with_command(list(arguments))
    for key, value in own.items():
        if key.startswith(ENV):
            made.with_env(key.removeprefix(ENV), value)
    for folder in {Path(tempfile.gettempdir()), Path.cwd()}:
        made.with_volume_mapping(str(folder), str(folder), "rw")
    # Read-only: our own files, and who is who, since initdb for one wants to know its user's name.
    for path in {ROOT, Path("/etc/passwd"), Path("/etc/group")} - {Path.cwd()}:
        made.with_volume_mapping(str(path), str(path), "ro")
    made.start()
    return made.get_wrapped_container()


def _remove(container: str) -> bool:
    """Remove a container, running or not; False if there is none of that name."""
    client = docker.from_env(timeout=60)
    try:
        client.api.remove_container(container, force=True, v=True)
    except NotFound:
        return False
    finally:
        client.close()
    return True


def _attended(container: Any) -> int:
    """Copy what it prints and pass signals on until it ends; its exit status."""
    readers = [
        threading.Thread(target=_copy, args=(container, stream, sink), daemon=True)
        for stream, sink in (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer))
    ]
    for reader in readers:
        reader.start()
    threading.Thread(target=_pass_on, args=(str(container.id),), daemon=True).start()
    status = int(container.wait()["StatusCode"])
    for reader in readers:
        reader.join()
    return status


def _copy(container: Any, stream: str, sink: IO[bytes]) -> None:
    for chunk in container.logs(
        stream=True, follow=True, stdout=stream == "stdout", stderr=stream == "stderr"
    ):
        sink.write(chunk)
        sink.flush()


def _pass_on(container: str) -> None:
    while True:
        send(container, signal.sigwait(PASSED_ON))


class _Guardian:
    """A process that removes the container when the launcher is killed and cannot do it itself."""

    def __init__(self, container: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.containerised", "--guard", container],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the launcher
        )

    def __enter__(self) -> _Guardian:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def dismiss(self) -> None:
        """Say that there is nothing left to remove."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"done")
        self._process.stdin.flush()


def guard(container: str) -> int:
    """Wait for the end of the launcher; remove the container, which may be about to be made, unless it is gone."""
    if sys.stdin.buffer.read() == b"done":
        return 0
    with suppress(NeverHappenedError):  # it was never made
        until(lambda: _remove(container), within=5, every=0.2)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Become the named program, or run it in a container."""
    if arguments[:1] == ["--guard"]:
        return guard(arguments[1])
    name, *rest = arguments
    found = shutil.which(name)
    if found and not is_wanted(name):
        os.execv(found, [name, *rest])  # replaces this process: nothing below is reached
    return run(name, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
