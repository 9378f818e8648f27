"""A real Docker engine of its own for the tests, in network, mount and pid namespaces of its own.

Nothing of it is shared with an engine that the machine may run: not the iptables rules, not the bridge, not the
mounts. When its first process ends, the kernel ends every container with it, so nothing is left behind.

Published ports are reached at `engine.host`, the engine's end of a veth pair, not at 127.0.0.1.
"""

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import docker
from docker.errors import DockerException

from tests.support.ports import FIRST, free_port
from tests.support.processes import Server, ServerFailedError, program
from tests.support.waiting import until

BUSYBOX = "test/busybox:1"
"""The image that `busybox` makes: Debian's static busybox, its applets linked, and nothing else."""


class DockerEngine(Server):
    """dockerd on a Unix socket. Needs root, as dockerd does. `flags` are further ones of its command line."""

    def __init__(self, *, flags: Sequence[str] = ()) -> None:
        if os.geteuid() != 0:
            raise ServerFailedError(
                "the tests' Docker engine has to be started as root: run the tests with sudo"
            )
        # A Unix socket's path has at most 107 bytes, and pytest's folders are longer than that leaves room for.
        folder = Path(tempfile.mkdtemp(prefix="rmd-docker-"))
        self.socket = folder / "docker.sock"
        # The port is not listened on: being ours alone, it numbers a link and a /30 that are ours alone.
        index = free_port() - FIRST
        self._link = f"rmd{index}"
        self._gateway, self.host = (f"10.231.{index >> 6}.{((index & 63) << 2) + end}" for end in (1, 2))
        super().__init__(
            [
                program("unshare", package="util-linux"),
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--",
                program("dockerd", package="docker.io"),
                f"--data-root={folder / 'data'}",
                f"--exec-root={folder / 'exec'}",
                f"--host=unix://{self.socket}",
                f"--pidfile={folder / 'docker.pid'}",
                "--log-level=warn",
                "--shutdown-timeout=2",
                *flags,
            ],
            name="dockerd",
            folder=folder,
            ready=self._pings,
            within=60,
        )

    @property
    def base_url(self) -> str:
        """What `DOCKER_HOST` and docker.DockerClient(base_url=...) take."""
        return f"unix://{self.socket}"

    def client(self) -> docker.DockerClient:
        """Return a client of this engine; close it after use."""
        return docker.DockerClient(base_url=self.base_url, timeout=60)

    def busybox(self) -> str:
        """Make the busybox image, unless it is there, and return its name."""
        client = self.client()
        try:
            if not client.images.list(name=BUSYBOX):
                binary = Path(program("busybox", package="busybox-static"))
                client.api.import_image_from_data(_busybox_tar(binary), *BUSYBOX.split(":"))
        finally:
            client.close()
        return BUSYBOX

    def import_rootfs(self, tar: bytes, name: str) -> str:
        """Make an image `repository:tag` of the files of a tar, as `docker import` does, and return its name."""
        repository, _, tag = name.partition(":")
        client = self.client()
        try:
            client.api.import_image_from_data(tar, repository, tag or "latest")
        finally:
            client.close()
        return name

    def published(self, container: str, port: int) -> str:
        """Return the `host:port` at which we reach a TCP port that the container publishes."""
        client = self.client()
        try:
            bindings = client.containers.get(container).ports[f"{port}/tcp"] or []
        finally:
            client.close()
        return f"{self.host}:{bindings[0]['HostPort']}"

    def clean(self) -> None:
        """Remove every container, network and volume, so that the next test starts afresh; images stay."""
        client = self.client()
        try:
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True, v=True)
            client.networks.prune()
            client.volumes.prune({"all": "true"} if _knows_all(client) else None)
        finally:
            client.close()

    def stop(self, within: float = 10.0) -> None:
        """Remove the containers and end the engine with all its processes."""
        if self.running:
            try:
                self.clean()
            except (DockerException, OSError):
                # A frozen or broken engine cannot clean up; ending its pid namespace below does it all the same.
                self.thaw()
        self.kill()

    def kill(self) -> None:
        """End the engine and, as on a power cut, every container; on return they are gone."""
        if self.running:
            # Of its pid namespace the first process: the kernel ends all the others before `unshare` sees its end.
            inner = self._inner_pid()
            if inner:
                os.kill(inner, signal.SIGKILL)
                until(lambda: not self.running, within=20, what="the end of dockerd")
        super().kill()
        # The namespace itself, and with it the veth pair, would go only some time later.
        subprocess.run(
            [program("ip", package="iproute2"), "link", "delete", self._link],
            capture_output=True,
            check=False,
        )
        self.socket.unlink(missing_ok=True)
        # Pids of the namespace that is gone. In the next one others have them: dockerd would take itself for an engine
        # that runs, and any process for a containerd that runs, and wait for it in vain.
        for name in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def freeze(self) -> None:
        """Let the engine hang: its own process, not the namespaces' parent."""
        os.kill(self._inner_pid(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen engine go on."""
        os.kill(self._inner_pid(), signal.SIGCONT)

    def _pings(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            client = docker.DockerClient(base_url=self.base_url, timeout=5)
        except DockerException:
            return False
        try:
            return bool(client.ping())
        except (DockerException, OSError):
            return False
        finally:
            client.close()

    def _started(self) -> None:
        """Join the engine's network namespace to ours with a veth pair, so that published ports can be reached."""
        inner = str(until(self._inner_pid, within=10, what="dockerd in its namespaces"))
        ip, nsenter = program("ip", package="iproute2"), program("nsenter", package="util-linux")
        ours, theirs = self._link, "eth0"
        inside = [nsenter, f"--target={inner}", "--net", "--", ip]
        for argv in (
            [ip, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", inner],
            [ip, "addr", "add", f"{self._gateway}/30", "dev", ours],
            [ip, "link", "set", ours, "up"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "addr", "add", f"{self.host}/30", "dev", theirs],
            [*inside, "link", "set", theirs, "up"],
            [*inside, "route", "add", "default", "via", self._gateway],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
            if done.returncode != 0:
                raise ServerFailedError(f"{' '.join(argv)}: {done.stderr}\n{self.log_tail()}")

    def _inner_pid(self) -> int:
        """Return dockerd's pid as we see it, or 0 while it is not there yet."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except FileNotFoundError:
            return 0
        return int(children[0]) if children else 0


def _knows_all(client: docker.DockerClient) -> bool:
    """Tell whether the engine's volume prune spares named volumes unless told otherwise (API 1.42 and later)."""
    major, minor = str(client.version()["ApiVersion"]).split(".")
    return (int(major), int(minor)) >= (1, 42)


def _busybox_tar(binary: Path) -> bytes:
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "www", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(binary, "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return buffer.getvalue()
