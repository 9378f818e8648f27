"""nginx's configuration on disk and the nginx that runs: which one is active, switched as a whole, tested first."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import PermanentFailure, Refused, TemporaryFailure
from remediator.offload import offload
from remediator.programs import run

OTHER = "other"


@dataclass(frozen=True, slots=True)
class SeenSite:
    """Which configuration is active, the master process's pid, and the SHA-256 of each configuration."""

    mode: str
    pid: int
    sha256: Mapping[str, str]


class Site:
    """One nginx on this host. Its files are switched by renaming a symlink: never absent, never half."""

    def __init__(
        self,
        *,
        binary: Path,
        config_file: Path,
        prefix: Path | None,
        pid_file: Path,
        active_link: Path,
        files: Mapping[str, Path],
        timeout_seconds: float,
    ) -> None:
        self._pid_file, self._link, self._files = pid_file, active_link, dict(files)
        where = ("-p", str(prefix)) if prefix else ()
        self._test = (str(binary), "-t", "-q", "-c", str(config_file), *where, "-e", "stderr")
        self._timeout_seconds = timeout_seconds

    async def look(self) -> SeenSite:
        """Read the link, the files and the pid.

        Raises:
            Refused: when they are not what configuration says.
        """
        return await offload(self._look)

    async def check(self, mode: str) -> None:
        """Have nginx test that configuration, and leave the link as it is.

        Raises:
            PermanentFailure: when nginx refuses it, or the link cannot be changed.
        """
        await self._try(mode, keep=False)

    async def switch(self, mode: str) -> None:
        """Point the link at that configuration, if nginx accepts it. The running nginx takes it over at `reload`.

        Raises:
            PermanentFailure: when nginx refuses it, or the link cannot be changed; it is as it was.
        """
        await self._try(mode, keep=True)

    async def _try(self, mode: str, *, keep: bool) -> None:
        before = await offload(os.readlink, self._link)
        await offload(self._point, str(self._files[mode]))
        sound = False
        try:
            finished = await run(self._test, self._timeout_seconds)
            sound = finished.status == 0
        finally:
            # Also where we are cancelled: no reload of anybody's may find a configuration that was not tested.
            if not (sound and keep):
                self._point(before)
        if not sound:
            raise PermanentFailure(f"nginx refuses the {mode} configuration: {finished.told}")

    async def reload(self) -> None:
        """Have the running nginx take over its files.

        Raises:
            TemporaryFailure: when it does not run.
        """
        pid = await offload(self._pid)
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError as error:
            raise TemporaryFailure(f"nginx (pid {pid}) is gone") from error
        except PermissionError as error:
            raise PermanentFailure(f"we may not signal nginx (pid {pid})") from error

    def _look(self) -> SeenSite:
        try:
            digests = {
                name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self._files.items()
            }
        except OSError as error:
            raise Refused(f"{error.filename} cannot be read: {error.strerror}") from error
        return SeenSite(self._mode(), self._pid(), digests)

    def _mode(self) -> str:
        if not self._link.is_symlink():
            raise Refused(f"{self._link} is not a symlink; it cannot be switched as a whole")
        target = self._link.parent / self._link.readlink()
        same = [name for name, path in self._files.items() if os.path.normpath(target) == str(path)]
        return same[0] if same else OTHER

    def _pid(self) -> int:
        try:
            pid = int(self._pid_file.read_text().strip())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError) as error:
            raise TemporaryFailure(f"nginx does not run ({self._pid_file}: {error})") from error
        if name != "nginx":
            raise Refused(f"the process {pid} of {self._pid_file} is {name}, not nginx")
        return pid

    def _point(self, target: str) -> None:
        """Let the link point there, in one step."""
        fresh = self._link.with_name(f".{self._link.name}.{secrets.token_hex(8)}")
        try:
            fresh.symlink_to(target)
            fresh.replace(self._link)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise PermanentFailure(f"{self._link} cannot be changed: {error.strerror}") from error
