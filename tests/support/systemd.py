"""A real systemd, pid 1 of a container on the tests' Docker engine, with its D-Bus socket in a folder of ours."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.dockerd import DockerEngine
from tests.support.systemd_tree import systemd_tree
from tests.support.waiting import until

IMAGE = "test/systemd:1"
NAME = "systemd-host"
CGROUP = "/sys/fs/cgroup/systemd"
UNITS = Path("etc/systemd/system")
LINK = "-> "
"""What the text of a file begins with that is to be a symbolic link."""


class SystemdHost:
    """A container that boots. `units` are files below /etc/systemd/system, by their path there.

    The containers of an engine are cleaned away between tests; `boot` then makes it anew.
    """

    def __init__(self, engine: DockerEngine, units: Mapping[str, str]) -> None:
        self._engine, self._units = engine, units
        # A Unix socket's path has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="rmd-bus-"))
        # Inside it the bus is for everybody, as polkit's daemon needs it.
        self._folder.chmod(0o755)
        self._id = ""
        self.pid = 0
        """Of its first process, as we see it."""

    @property
    def socket(self) -> Path:
        """The system bus."""
        return self._folder / "system_bus_socket"

    @property
    def bus_address(self) -> str:
        """The system bus as D-Bus names it."""
        return f"unix:path={self.socket}"

    def boot(self) -> None:
        """Start it unless it runs, and return when systemd has started all that it starts."""
        self._engine.start()
        client = self._engine.client()
        try:
            if self._id and client.containers.list(filters={"id": self._id}):
                return
            if not client.images.list(name=IMAGE):
                client.api.import_image_from_file(str(systemd_tree()), *IMAGE.split(":"))
            self.socket.unlink(missing_ok=True)
            self._id = self._create(client)
            client.api.put_archive(self._id, "/", _tar(self._units))
            client.api.start(self._id)
            self.pid = until(lambda: _outer_pid(self._engine, self._id), what="the first process")
            until(
                lambda: self.run("is-system-running") in ("running", "degraded"), within=60, what="the boot"
            )
        finally:
            client.close()

    def _create(self, client: Any) -> str:
        api = client.api
        found = api.create_container(
            IMAGE,
            ["/sbin/init"],
            name=NAME,
            environment={"container": "docker"},
            stop_signal="SIGRTMIN+3",
            host_config=api.create_host_config(
                cap_add=["SYS_ADMIN"],
                security_opt=["seccomp=unconfined"],
                tmpfs={"/run": "", "/tmp": ""},
                binds={
                    CGROUP: {"bind": CGROUP, "mode": "rw"},
                    str(self._folder): {"bind": "/run/dbus", "mode": "rw"},
                },
                network_mode="none",
            ),
        )
        return str(found["Id"])

    def run(self, *argv: str, check: bool = False) -> str:
        """Run systemctl in it and return what it printed, without the last newline."""
        code, out = self.execute("systemctl", *argv)
        assert not check or code == 0, out
        return out.strip()

    def execute(self, *argv: str) -> tuple[int, str]:
        """Run any program in it: its status and what it printed."""
        client = self._engine.client()
        try:
            made = client.api.exec_create(self._id, list(argv))["Id"]
            out = client.api.exec_start(made)
            return int(client.api.exec_inspect(made)["ExitCode"]), out.decode(errors="replace")
        finally:
            client.close()

    def show(self, unit: str) -> dict[str, str]:
        """State and run of a unit, as an administrator sees them."""
        return self.show_all(unit)[unit]

    def show_all(self, *units: str) -> dict[str, dict[str, str]]:
        """The same of several units, by their names."""
        names = "Id,ActiveState,SubState,InvocationID,UnitFileState"
        blocks = self.run("show", f"--property={names}", *units, check=True).split("\n\n")
        shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
        return {one["Id"]: one for one in shown}

    def write(self, path: str, text: str) -> None:
        """Put a file into it."""
        client = self._engine.client()
        try:
            client.api.put_archive(self._id, "/", _tar({path: text}, below=Path()))
        finally:
            client.close()

    def crash(self) -> None:
        """End it as a power cut does."""
        client = self._engine.client()
        try:
            client.api.remove_container(self._id, force=True)
        finally:
            client.close()
        self._id = ""

    def close(self) -> None:
        """Remove what it left on our disk; the engine ends the container."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _outer_pid(engine: DockerEngine, id_: str) -> int:
    """The pid of a container's first process as we see it: the engine tells that of its own namespace."""
    for status in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            inside = id_ in status.read_text()
            first = status.with_name("status").read_text().partition("NSpid:")[2].splitlines()[0].split()
        except (OSError, IndexError):
            continue  # it has ended meanwhile
        if inside and first[-1] == "1":
            return int(status.parent.name)
    return 0


def _tar(files: Mapping[str, str], below: Path = UNITS) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(str(below / name))
            if text.startswith(LINK):
                entry.type, entry.linkname = tarfile.SYMTYPE, text.removeprefix(LINK)
                tar.addfile(entry)
                continue
            entry.size, entry.mode = len(text.encode()), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
