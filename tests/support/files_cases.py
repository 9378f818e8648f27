"""One use of every files action, ready to be planned, applied, spoilt and undone."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediator.actions.files import (
    ArchiveLogs,
    BackupModel,
    FilesConnection,
    PruneCache,
    PruneVersions,
    RollbackModel,
    SetEnvKey,
)
from tests.support.mounts import small_disk

DAY = 86_400
MIB = 2**20
Tree = dict[str, Any]


@dataclass
class Case:
    """One use of an action, on files of its own.

    Attributes:
        action: the class.
        settings: of the connection.
        params: without connection.
        subject: the parameter that names what is acted on; hostile values are tried on it.
        look: what the action changes, as anybody sees it.
        done: whether a look shows the effect, given the look before.
        spoil: change what was planned on.
        undone: whether a look shows that it was taken back; None where nothing takes it back.
        irreversible: whether its plan says so.
        writes_bytes: how much may be written before its process is killed in the middle; None where it writes nothing.
    """

    action: Any
    settings: dict[str, Any]
    params: dict[str, Any]
    subject: str
    look: Callable[[], Tree]
    done: Callable[[Tree, Tree], bool]
    spoil: Callable[[], object]
    undone: Callable[[Tree, Tree], bool] | None = None
    irreversible: bool = False
    writes_bytes: int | None = None
    open_files: list[Any] = field(default_factory=list)

    @property
    def connection(self) -> FilesConnection:
        """The connection that allows just this use."""
        return FilesConnection.model_validate({"kind": "files", **self.settings})

    def make(self) -> Any:
        """The action."""
        return self.action(self.connection)

    def parameters(self, **others: Any) -> Any:
        """The validated parameters."""
        return self.action.Params.model_validate({"connection": "host", **self.params, **others})


def sha(content: bytes) -> str:
    """The SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def written(path: Path, content: bytes, *, age_seconds: float = 0, mode: int = 0o644) -> Path:
    """Write a file that was last changed so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    when = time.time() - age_seconds
    os.utime(path, (when, when))
    return path


def backup(folder: Path, content: bytes, stamp: str, *, failed: bool = False) -> Path:
    """A backup of best_model.pth with its manifest, as files.backup_model writes it."""
    name = f"best_model_{'failed_' if failed else ''}{stamp}_{sha(content)}.pth"
    (folder / f"{name}.sha256").write_text(f"{sha(content)}  {name}\n")
    return written(folder / name, content)


def tree(*folders: Path) -> Tree:
    """Everything below the folders: links by where they lead, files by content and mode; not our unfinished files."""
    found: Tree = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.name.startswith(".remediator-new-"):
                continue
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file():
                found[str(path)] = (path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def leftovers(folder: Path) -> list[str]:
    """Our own hidden files that are still there."""
    return [str(path) for path in folder.rglob(".remediator-*")]


def _model(home: Path) -> tuple[dict[str, Any], Path, Path]:
    models, store = home / "models", home / "backups"
    models.mkdir()
    store.mkdir()
    settings = {
        "roots": {"models": str(models), "backups": str(store)},
        "models": {
            "segmentation": {
                "live": {"root": "models", "file": "best_model.pth"},
                "backups": {"root": "backups"},
                "keep": 3,
            }
        },
    }
    return settings, models / "best_model.pth", store


def backup_model(home: Path, stack: ExitStack) -> Case:
    """A model that has three backups of other contents; with a fourth one the oldest goes."""
    settings, live, store = _model(home)
    written(live, b"A" * 300_000, mode=0o640)
    oldest = backup(store, b"1" * 1000, "20250101T000000Z")
    others = [backup(store, f"{n}".encode() * 1000, f"2025020{n}T000000Z") for n in (2, 3)]

    def done(before: Tree, after: Tree) -> bool:
        new = sorted(set(after) - set(before))
        name = new[0] if new else ""
        return (
            len(new) == 2
            and new[1] == f"{name}.sha256"
            and name.endswith(f"Z_{sha(b'A' * 300_000)}.pth")
            and after[name] == (b"A" * 300_000, 0o640)
            and str(oldest) not in after
            and f"{oldest}.sha256" not in after
            and all(str(one) in after for one in others)
        )

    return Case(
        BackupModel,
        settings,
        {"model": "segmentation", "keep": 3},
        "model",
        look=lambda: tree(home),
        done=done,
        spoil=lambda: live.write_bytes(b"B" * 1000),
        writes_bytes=100_000,
    )


def rollback_model(home: Path, stack: ExitStack) -> Case:
    """A bad model; of its backups the newest is damaged, one is the bad model itself, and the third is good."""
    settings, live, store = _model(home)
    bad, good = b"bad" * 100_000, b"good" * 100_000
    written(live, bad, mode=0o640)
    os.chown(live, 1234, 1234)
    backup(store, good, "20250301T000000Z")
    backup(store, b"older" * 10, "20250101T000000Z")
    backup(store, bad, "20250401T000000Z")
    damaged = backup(store, b"new" * 100_000, "20250501T000000Z")
    damaged.write_bytes(b"nex" * 100_000)
    backup(store, b"failed before" * 10, "20250601T000000Z", failed=True)

    def look() -> Tree:
        return {**tree(home), "owner": live.stat().st_uid}

    def done(before: Tree, after: Tree) -> bool:
        kept = [name for name in after if "_failed_" in name and name.endswith(f"{sha(bad)}.pth")]
        return (
            after[str(live)] == (good, 0o640)
            and after["owner"] == 1234
            and [after[name][0] for name in kept] == [bad]
            and {name: state for name, state in after.items() if name in before and name != str(live)}
            == {name: state for name, state in before.items() if name != str(live)}
        )

    return Case(
        RollbackModel,
        settings,
        {"model": "segmentation"},
        "model",
        look=look,
        done=done,
        spoil=lambda: live.write_bytes(b"third"),
        undone=lambda before, after: before[str(live)] == after[str(live)] and after["owner"] == 1234,
        writes_bytes=100_000,
    )


def set_env_key(home: Path, stack: ExitStack) -> Case:
    """EMERGENCY_MODE among other keys, in a file of another user that only his group reads."""
    env = written(
        home / "app" / ".env", b"# settings\nA=1\nexport EMERGENCY_MODE=false\nDB_PASSWORD=x y\n", mode=0o640
    )
    os.chown(env, 1234, 1234)
    after_bytes = b"# settings\nA=1\nexport EMERGENCY_MODE=true\nDB_PASSWORD=x y\n"

    def look() -> Tree:
        found = env.stat()
        return {".env": (env.read_bytes(), found.st_mode & 0o777, found.st_uid, found.st_gid)}

    return Case(
        SetEnvKey,
        {
            "roots": {"app": str(home / "app")},
            "env_files": {
                "app": {
                    "place": {"root": "app", "file": ".env"},
                    "keys": {"EMERGENCY_MODE": ["true", "false"], "LOG_LEVEL": []},
                }
            },
        },
        {"env_file": "app", "key": "EMERGENCY_MODE", "value": "true"},
        "env_file",
        look=look,
        done=lambda before, after: after == {".env": (after_bytes, 0o640, 1234, 1234)},
        spoil=lambda: env.write_text("EMERGENCY_MODE=maybe\n"),
        undone=lambda before, after: before == after,
        writes_bytes=10,
    )


def prune_cache(home: Path, stack: ExitStack) -> Case:
    """A disk of 8 MiB that is 90% full: old files of a cache, newer ones, an open one, and links out of it."""
    disk = stack.enter_context(small_disk(home / "disk", 8 * MIB))
    cache, outside = disk / "cache", home / "outside"
    for number in range(20):
        written(cache / "sub" / f"old-{number:02}.bin", os.urandom(100_000), age_seconds=(60 - number) * DAY)
    written(cache / "new.bin", os.urandom(100_000), age_seconds=3600)
    held = written(cache / "held.bin", os.urandom(100_000), age_seconds=90 * DAY).open("rb")
    stack.callback(held.close)
    other = written(outside / "of-others.bin", b"theirs", age_seconds=90 * DAY)
    (cache / "link.bin").symlink_to(other)
    (cache / "links").symlink_to(outside)
    whole = os.statvfs(disk)
    written(disk / "filler", b"", age_seconds=90 * DAY)
    missing = int(whole.f_blocks * whole.f_frsize * 0.9) - (
        (whole.f_blocks - os.statvfs(disk).f_bavail) * whole.f_frsize
    )
    (disk / "filler").write_bytes(os.urandom(missing))

    def done(before: Tree, after: Tree) -> bool:
        gone = sorted(set(before) - set(after))
        now = os.statvfs(disk)
        return (
            gone == [str(cache / "sub" / f"old-{number:02}.bin") for number in range(len(gone))]
            and 0 < len(gone) < 20
            and 0.65 < 1 - now.f_bavail / now.f_blocks <= 0.7
            and all(after[name] == state for name, state in before.items() if name not in gone)
        )

    def spoil() -> None:
        cache.rename(disk / "cache-before")
        (cache / "sub").mkdir(parents=True)
        for path in (disk / "cache-before" / "sub").iterdir():
            os.link(path, disk / f"second-{path.name}")
            path.rename(cache / "sub" / path.name)

    return Case(
        PruneCache,
        {
            "roots": {"disk": str(disk)},
            "caches": {"volumes": {"folder": {"root": "disk", "path": "cache"}, "min_age_seconds": DAY}},
        },
        {"cache": "volumes", "above_percent": 80, "until_percent": 70, "mountpoint": str(disk)},
        "cache",
        look=lambda: tree(disk, outside),
        done=done,
        spoil=spoil,
        irreversible=True,
    )


def archive_logs(home: Path, stack: ExitStack) -> Case:
    """Rotated logs, one being written and one that is new, and an archive on another disk."""
    stack.enter_context(small_disk(home / "archive", 4 * MIB))
    logs = home / "logs"
    text = {f"app.log.{n}": f"line {n}\n".encode() * 20_000 for n in (1, 2, 3)}
    for name, content in text.items():
        written(logs / name, content, age_seconds=5 * DAY, mode=0o640)
    written(logs / "app.log", b"live\n", age_seconds=5 * DAY)
    written(logs / "app.log.4", b"new\n", age_seconds=60)
    held = written(logs / "app.log.5", b"held\n", age_seconds=5 * DAY).open("ab")
    stack.callback(held.close)
    outside = written(home / "outside.log.1", b"theirs", age_seconds=5 * DAY)
    (logs / "app.log.6").symlink_to(outside)

    def done(before: Tree, after: Tree) -> bool:
        gone = {Path(name).name for name in set(before) - set(after)}
        packed = {Path(name).name: state for name, state in after.items() if name.endswith(".gz")}
        unpacked = {name.rsplit("_", 2)[0]: gzip.decompress(state[0]) for name, state in packed.items()}
        return gone == set(text) and unpacked == text and {state[1] for state in packed.values()} == {0o640}

    def spoil() -> None:
        logs.rename(home / "logs-before")
        written(logs / "app.log.1", b"another\n", age_seconds=5 * DAY)

    return Case(
        ArchiveLogs,
        {
            "roots": {"home": str(home)},
            "logs": {
                "app": {
                    "folder": {"root": "home", "path": "logs"},
                    "names": ["*.log.*"],
                    "archive": {"root": "home", "path": "archive"},
                }
            },
        },
        {"logs": "app"},
        "logs",
        look=lambda: tree(home),
        done=done,
        spoil=spoil,
        undone=lambda before, after: before == {k: v for k, v in after.items() if not k.endswith(".gz")},
        writes_bytes=100,
    )


def prune_versions(home: Path, stack: ExitStack) -> Case:
    """Eight versions, of which the newest three stay; a link means the oldest, and a process has another open."""
    folder = home / "releases"
    for number in range(8):
        written(
            folder / f"model-{number}.bento", f"{number}".encode() * 1000, age_seconds=(30 - number) * DAY
        )
    (folder / "model-2.bento.sha256").write_text("manifest\n")
    written(folder / "other.txt", b"other", age_seconds=90 * DAY)
    (folder / "current").symlink_to("model-0.bento")
    held = (folder / "model-1.bento").open("rb")
    stack.callback(held.close)
    goes = {"model-2.bento", "model-2.bento.sha256", "model-3.bento", "model-4.bento"}

    return Case(
        PruneVersions,
        {
            "roots": {"releases": str(folder)},
            "versions": {
                "bento": {
                    "folder": {"root": "releases"},
                    "names": ["model-*"],
                    "keep": 2,
                    "in_use": [{"root": "releases", "file": "current"}],
                }
            },
        },
        {"versions": "bento", "keep": 3},
        "versions",
        look=lambda: tree(folder),
        done=lambda before, after: {Path(name).name for name in set(before) - set(after)} == goes,
        spoil=lambda: written(folder / "model-3.bento", b"rewritten", age_seconds=27 * DAY),
        irreversible=True,
    )


MAKERS: dict[str, Callable[[Path, ExitStack], Case]] = {
    "files.archive_logs": archive_logs,
    "files.backup_model": backup_model,
    "files.prune_cache": prune_cache,
    "files.prune_versions": prune_versions,
    "files.rollback_model": rollback_model,
    "files.set_env_key": set_env_key,
}


@contextmanager
def case_of(kind: str, home: Path) -> Iterator[Case]:
    """A use of that kind, on files below a folder."""
    with ExitStack() as stack:
        yield MAKERS[kind](home, stack)
