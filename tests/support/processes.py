"""A real server for a test: started on its own port and folder, awaited until it answers, stopped by its pid."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import containerised

EXTRA_PATH = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    *(str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
)
"""Where Debian keeps servers that are not on a plain user's PATH."""


class MissingProgramError(RuntimeError):
    """A program that a test needs is not installed. The message says how to get it."""


class ServerFailedError(RuntimeError):
    """A server did not start or did not answer in time. The message ends with the tail of its log."""


def program(*names: str, package: str) -> str:
    """Return the path of the first of `names` that is installed, or of what runs it in a container instead.

    If there is neither, the error says which Debian package brings it. Those that REMEDIATOR_TEST_CONTAINED names,
    with commas between, run in containers although they are installed.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *EXTRA_PATH))
    for name in names:
        found = shutil.which(name, path=path)
        if found and not containerised.is_wanted(name):
            return found
    contained = containerised.launcher(*names)
    if contained:
        return contained
    raise MissingProgramError(
        f"{names[0]} is not installed: apt-get install {package} (or run tests/install.sh)"
    )


def as_user(privileges: Sequence[str], argv: Sequence[str]) -> list[str]:
    """Return the command that runs another with setpriv's options, such as `--reuid=26`, and dies with us.

    In a container the other user is the container's: the launcher itself has to reach the engine.
    """
    setpriv = [program("setpriv", package="util-linux"), "--pdeathsig=KILL"]
    if not containerised.is_launcher(argv[0]):
        return [*setpriv, *privileges, "--", *argv]
    told = dict(option.lstrip("-").partition("=")[::2] for option in privileges)
    user = [f"{containerised.USER}{told['reuid']}:{told['regid']}"] if told else []
    return [*setpriv, "--", argv[0], *user, *argv[1:]]


def tcp_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def http_answers(url: str) -> bool:
    """Tell whether a GET of the URL is answered with a 2xx status."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(200 <= answer.status < 300)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except (OSError, urllib.error.URLError, ValueError):
        return False


class Server:
    """One child process that serves. A context manager: entering starts it, leaving stops it.

    The kernel ends the child when the thread that started it ends (PR_SET_PDEATHSIG), so that a killed test run
    leaves nothing behind. So start it from the main thread, not from a worker of a thread pool.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        folder: Path,
        ready: Callable[[], bool],
        within: float = 30.0,
        env: Mapping[str, str] | None = None,
        privileges: Sequence[str] = (),
    ) -> None:
        """`within` is in seconds; `privileges` are setpriv's options, such as `--reuid=postgres`."""
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._argv = list(argv)
        self._container = ""
        if containerised.is_launcher(self._argv[0]):
            self._container = f"remediator-test-{name}-{secrets.token_hex(6)}"
            given = (f"{containerised.ENV}{key}={value}" for key, value in (env or {}).items())
            self._argv[1:1] = [f"{containerised.CONTAINER}{self._container}", *given]
        self._ready = ready
        self._within = within
        self._env = {**os.environ, **(env or {})}
        self._privileges = list(privileges)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The pid of the running child."""
        if self._process is None:
            raise ServerFailedError(f"{self.name} is not running")
        if self._container:
            return containerised.pid_in(self._container)
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child is there (a frozen one is)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the child and return when it answers."""
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                as_user(self._privileges, self._argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self.folder,
                # Its own session, so that Ctrl-C in the terminal reaches the tests first and they stop it in order.
                start_new_session=True,
            )
        try:
            self._started()
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def _started(self) -> None:
        """Do what has to be done between the start and the first answer: nothing, for most servers."""

    def _await_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._within
        while not self._ready():
            if self._process.poll() is not None:
                raise ServerFailedError(
                    f"{self.name} ended with {self._process.returncode}\n{self.log_tail()}"
                )
            if time.monotonic() >= deadline:
                raise ServerFailedError(
                    f"{self.name} did not answer within {self._within:g} s\n{self.log_tail()}"
                )
            time.sleep(0.02)

    def stop(self, within: float = 10.0) -> None:
        """Ask the child to end (SIGTERM) and, after `within` seconds, make it (SIGKILL)."""
        if self._process is None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the child as a crash would (SIGKILL); `start` brings it back on the same port and data."""
        if self._process is None:
            return
        self.send(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send the child a signal; nothing happens if it has ended by itself."""
        if self._process is None:
            raise ServerFailedError(f"{self.name} is not running")
        if not (self._container and containerised.send(self._container, number)):
            self._process.send_signal(number)

    def restart(self) -> None:
        """Stop in order and start again on the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let the child hang (SIGSTOP): it keeps its port and connections and answers nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen child go on (SIGCONT)."""
        self.send(signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of what the child wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
