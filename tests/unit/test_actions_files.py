"""What the files actions plan, allow and make of names and lines; nothing is touched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from remediator.actions.files import (
    ArchiveLogs,
    ArchiveLogsParams,
    BackupModel,
    BackupModelParams,
    FilesConnection,
    PruneCache,
    PruneCacheParams,
    PruneVersions,
    PruneVersionsParams,
    RollbackModel,
    RollbackModelParams,
    SeenCache,
    SeenEnv,
    SeenLogs,
    SeenModel,
    SeenVersions,
    SetEnvKey,
    SetEnvKeyParams,
)
from remediator.actions.files.backups import Backup, Content, name_of, parsed
from remediator.actions.files.env import values_of, with_line
from remediator.actions.files.oldfiles import OldFile, Wanted
from remediator.actions.files.packing import archive_name
from remediator.actions.files.prune_cache import Use
from remediator.domain.plans import Progress
from remediator.errors import NothingSelected, Refused
from remediator.rooted import AbsolutePath, Identity, RelativePath

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
A, B, C = "a" * 64, "b" * 64, "c" * 64
MIB = 2**20
SETTINGS: dict[str, Any] = {
    "kind": "files",
    "roots": {"data": "/srv/data", "archive": "/srv/archive"},
    "models": {
        "seg": {
            "live": {"root": "data", "folder": "models", "file": "best_model.pth"},
            "backups": {"root": "data", "path": "backups"},
            "keep": 2,
        }
    },
    "caches": {
        "volumes": {"folder": {"root": "data", "path": "cache"}, "limit_bytes": 100 * MIB},
        "scratch": {"folder": {"root": "data", "path": "scratch"}, "expendable": True},
    },
    "logs": {
        "api": {
            "folder": {"root": "data", "path": "logs"},
            "names": ["*.log.*"],
            "archive": {"root": "archive"},
        }
    },
    "env_files": {
        "app": {"place": {"root": "data", "file": ".env"}, "keys": {"MODE": ["on", "off"], "LEVEL": []}}
    },
    "versions": {"bento": {"folder": {"root": "data"}, "names": ["m-*"], "keep": 1}},
}
CONNECTION = FilesConnection.model_validate(SETTINGS)


def content(sha: str, size_bytes: int = 1000) -> Content:
    """A file that was read."""
    return Content(Identity(1, 2, size_bytes, 3), sha)


def old(name: str, age: int, bytes_: int = MIB) -> OldFile:
    """A file; the larger its age the older."""
    return OldFile(10**18 - age, (name,), bytes_, Identity(1, age, bytes_, 10**18 - age))


def backup(sha: str, stamp: str = "20260101T000000Z", *, failed: bool = False) -> Backup:
    """A backup of the model."""
    taken = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return Backup(name_of("best_model.pth", sha, taken, failed=failed), stamp, sha, failed)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"roots": {"data": "srv"}}, id="relative-root"),
        pytest.param({"roots": {"data": "/srv/../etc"}}, id="dots"),
        pytest.param({"roots": {"data": "/"}}, id="everything"),
        pytest.param({"roots": {}}, id="no-root"),
        pytest.param({"caches": {"x": {"folder": {"root": "other"}}}}, id="unknown-root"),
        pytest.param({"caches": {"x": {"folder": {"root": "data", "path": "../etc"}}}}, id="out-of-root"),
        pytest.param({"caches": {"x": {"folder": {"root": "data", "path": "/etc"}}}}, id="absolute-path"),
        pytest.param({"caches": {"x": {"folder": {"root": "data"}, "names": []}}}, id="no-names"),
        pytest.param({"caches": {"x": {"folder": {"root": "data"}, "names": ["a/b"]}}}, id="path-as-name"),
        pytest.param(
            {"env_files": {"x": {"place": {"root": "data", "file": ".."}, "keys": {"A": []}}}},
            id="file-of-dots",
        ),
        pytest.param(
            {"env_files": {"x": {"place": {"root": "data", "file": ".env"}, "keys": {"DB_PASSWORD": []}}}},
            id="secret",
        ),
        pytest.param({"more": 1}, id="unknown-setting"),
    ],
)
def test_a_connection_that_would_allow_too_much_is_wrong(change: dict[str, Any]) -> None:
    """Roots are absolute and plain, places are below them, and no secret may be set."""
    with pytest.raises(ValidationError):
        FilesConnection.model_validate({**SETTINGS, **change})


@given(st.text(alphabet="ab./\0 ", max_size=12))
def test_a_relative_path_never_leads_out(text: str) -> None:
    """Whatever is accepted as a relative path stays below its root."""
    try:
        path = TypeAdapter(RelativePath).validate_python(text)
    except ValidationError:
        return

    assert ".." not in Path(path).parts
    assert not Path(path).is_absolute()


@given(st.text(alphabet="ab./", max_size=12))
def test_an_absolute_path_is_written_as_it_is_used(text: str) -> None:
    """Whatever is accepted as an absolute path is normal, and not the root."""
    try:
        path = TypeAdapter(AbsolutePath).validate_python(Path(text))
    except ValidationError:
        return

    assert path.is_absolute()
    assert ".." not in path.parts
    assert path != Path("/")


def test_the_name_of_a_backup_says_all_of_it() -> None:
    """The name is read back as it was written; the names of other things are no backups."""
    good = name_of("best_model.pth", A, NOW)
    failed = name_of("best_model.pth", A, NOW, failed=True)

    assert f"best_model_20260115T120000Z_{A}.pth" == good
    assert Backup(good, "20260115T120000Z", A, failed=False) == parsed("best_model.pth", good)
    assert Backup(failed, "20260115T120000Z", A, failed=True) == parsed("best_model.pth", failed)
    for other in (
        "best_model.pth",
        f"{good}.tmp",
        f"x{good}",
        good.replace(A, A[:10]),
        good.replace(".pth", ".pt"),
    ):
        assert parsed("best_model.pth", other) is None


def test_a_backup_beyond_the_kept_ones_goes() -> None:
    """With the new copy there are three: the oldest goes, failed ones are not counted, and it is told."""
    seen = SeenModel(
        NOW,
        content(A),
        (
            backup(B, "20260110T000000Z"),
            backup(A, "20260105T000000Z", failed=True),
            backup(C, "20260101T000000Z"),
        ),
    )
    action = BackupModel(CONNECTION)
    (effect,) = action.plan(BackupModelParams(connection="h", model="seg", keep=2), seen)

    assert {"backup": name_of("best_model.pth", A, NOW), "gone": [seen.backups[2].name]} == effect.after
    assert {"copied_bytes": 1000, "removed_files": 1} == effect.figures
    assert "1 older go" in effect.summary
    assert not effect.irreversible


def test_a_model_that_is_kept_is_not_copied_again() -> None:
    """A backup of the same content is enough; it is no reason to stop a playbook."""
    seen = SeenModel(NOW, content(A), (backup(A),))
    action = BackupModel(CONNECTION)
    (effect,) = action.plan(BackupModelParams(connection="h", model="seg"), seen)

    assert 0 == effect.figures["copied_bytes"]
    assert Progress.DONE is action.progress(effect, seen)


def test_no_model_is_nothing_to_keep() -> None:
    """A missing model is told, and other names of models are refused."""
    action = BackupModel(CONNECTION)
    with pytest.raises(NothingSelected):
        action.plan(BackupModelParams(connection="h", model="seg"), SeenModel(NOW, None, ()))
    with pytest.raises(Refused, match="not among the models"):
        action.plan(BackupModelParams(connection="h", model="other"), SeenModel(NOW, None, ()))


def test_a_rollback_tells_what_replaces_what() -> None:
    """Both contents, what is passed over and why, and how it is undone stand in the plan."""
    seen = SeenModel(
        NOW, content(A), (backup(B),), chosen=backup(B), chosen_bytes=2000, faults=("x.pth: damaged",)
    )
    action = RollbackModel(CONNECTION)
    (effect,) = action.plan(RollbackModelParams(connection="h", model="seg"), seen)

    assert {"live": A, "backup": seen.backups[0].name} == effect.before
    assert name_of("best_model.pth", A, NOW, failed=True) == effect.after["kept"]
    for word in (A[:12], B[:12], "2.0 kB", "x.pth: damaged"):
        assert word in effect.summary
    assert A[:12] in effect.undo


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(B, Progress.DONE, id="replaced"),
        pytest.param(A, Progress.UNTOUCHED, id="as-it-was"),
        pytest.param(C, Progress.UNCLEAR, id="a-third-one"),
        pytest.param(None, Progress.UNCLEAR, id="gone"),
    ],
)
def test_the_progress_of_a_rollback(live: str | None, expected: Progress) -> None:
    """The content of the live file says whether it was done."""
    seen = SeenModel(NOW, content(A), (backup(B),), chosen=backup(B), chosen_bytes=1)
    action = RollbackModel(CONNECTION)
    (effect,) = action.plan(RollbackModelParams(connection="h", model="seg"), seen)

    assert expected is action.progress(effect, replace(seen, live=content(live) if live else None))


def cache(used: int, *files: OldFile, **others: Any) -> SeenCache:
    """A cache on a disk of 100 MiB."""
    return SeenCache("1:2", NOW, Use(used * MIB, 100 * MIB), files, **others)


@pytest.mark.parametrize(
    ("used", "expected_files"),
    [
        pytest.param(81, 11, id="just-above"),
        pytest.param(90, 20, id="nearly-full"),
        pytest.param(100, 25, id="all-that-are-old"),
    ],
)
def test_as_many_files_go_as_are_needed(used: int, expected_files: int) -> None:
    """The oldest, until not more than 70% are used; no more than there are."""
    files = tuple(old(f"{n}", 100 - n) for n in range(25))
    (effect,) = PruneCache(CONNECTION).plan(
        PruneCacheParams(connection="h", cache="volumes"), cache(used, *files)
    )

    assert {"files": expected_files, "bytes": expected_files * MIB} == effect.figures
    assert effect.at_most["bytes"] < expected_files * MIB * 1.25 + 2 * MIB
    assert effect.irreversible


def test_what_its_owner_calls_expendable_may_go_by_itself() -> None:
    """Only where the connection says so is a prune not irreversible."""
    (effect,) = PruneCache(CONNECTION).plan(
        PruneCacheParams(connection="h", cache="scratch"), cache(90, old("a", 1))
    )

    assert not effect.irreversible


def test_a_cache_that_is_not_full_or_not_the_one_is_left() -> None:
    """At the limit is not above it; another disk is refused; nothing old is nothing selected."""
    action, params = PruneCache(CONNECTION), PruneCacheParams(connection="h", cache="volumes")
    with pytest.raises(NothingSelected, match="not above 80%"):
        action.plan(params, cache(80, old("a", 1)))
    with pytest.raises(NothingSelected, match="no file is older"):
        action.plan(params, cache(90))
    with pytest.raises(Refused, match="does not lie there"):
        action.plan(params, cache(90, old("a", 1), same_filesystem=False))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(cache(70, old("a", 1)), Progress.DONE, id="low-enough"),
        pytest.param(cache(90), Progress.DONE, id="nothing-left"),
        pytest.param(cache(75, old("a", 1)), Progress.UNTOUCHED, id="to-be-gone-on-with"),
        pytest.param(replace(cache(75, old("a", 1)), folder="1:3"), Progress.UNCLEAR, id="another-folder"),
    ],
)
def test_the_progress_of_a_prune(seen: SeenCache, expected: Progress) -> None:
    """Going on is the same as starting, in the same folder."""
    action = PruneCache(CONNECTION)
    (effect,) = action.plan(PruneCacheParams(connection="h", cache="volumes"), cache(90, old("a", 1)))

    assert expected is action.progress(effect, seen)


@pytest.mark.parametrize(
    "params",
    [
        {"above_percent": 70, "until_percent": 70},
        {"above_percent": 100},
        {"min_age_seconds": 0},
        {"mountpoint": "data"},
        {"mountpoint": "/data\nx"},
        {"measure": "inodes"},
        {"cache": "../x"},
        {"more": 1},
    ],
)
def test_parameters_of_a_prune_that_make_no_sense(params: dict[str, Any]) -> None:
    """They are refused before anything is looked at."""
    with pytest.raises(ValidationError):
        PruneCacheParams.model_validate({"connection": "h", "cache": "volumes", **params})


def test_logs_are_told_in_figures_and_go_to_another_disk() -> None:
    """Count and size with their bounds; an archive on the disk of the logs is refused."""
    action, params = ArchiveLogs(CONNECTION), ArchiveLogsParams(connection="h", logs="api")
    seen = SeenLogs("1:2", "3:4", same_filesystem=False, cutoff_at=NOW, files=(old("a.log.1", 1),))
    (effect,) = action.plan(params, seen)
    with pytest.raises(Refused, match="lies on the file system of the logs"):
        action.plan(params, replace(seen, same_filesystem=True))
    with pytest.raises(NothingSelected):
        action.plan(params, replace(seen, files=()))

    assert {"files": 1, "bytes": MIB} == effect.figures
    assert {"folder": "1:2", "archive": "3:4"} == effect.before
    assert Progress.DONE is action.progress(effect, replace(seen, files=()))
    assert Progress.UNCLEAR is action.progress(effect, replace(seen, archive="3:5"))
    assert f"a.log.1_20260115T120000Z_{A[:16]}.gz" == archive_name("a.log.1", int(NOW.timestamp()) * 10**9, A)


def test_the_newest_versions_and_those_in_use_stay() -> None:
    """The plan names what goes, and what it spares."""
    files = tuple(old(f"m-{n}", n) for n in range(5))
    action, params = PruneVersions(CONNECTION), PruneVersionsParams(connection="h", versions="bento", keep=2)
    seen = SeenVersions("1:2", files, {"m-3": "a process has it open", "m-0": "it serves"})
    (effect,) = action.plan(params, seen)
    with pytest.raises(NothingSelected):
        action.plan(params, replace(seen, files=files[:2]))

    assert ["m-2", "m-4"] == list(effect.before["files"])
    assert "in use: m-3" in effect.summary
    assert effect.irreversible
    assert Progress.DONE is action.progress(effect, replace(seen, files=(files[0], files[1], files[3])))
    assert Progress.UNTOUCHED is action.progress(effect, replace(seen, files=files[:4]))
    other = replace(files[4], identity=Identity(1, 99, 1, 1))
    assert Progress.UNCLEAR is action.progress(effect, replace(seen, files=(*files[:4], other)))


@pytest.mark.parametrize(
    ("values", "lines", "undo", "progress"),
    [
        pytest.param((), 1, "remove the line of MODE", Progress.UNTOUCHED, id="not-set"),
        pytest.param(("off",), 1, "set MODE to 'off' again", Progress.UNTOUCHED, id="one-line"),
        pytest.param(("on", "off"), 2, "set MODE to 'off' again", Progress.UNTOUCHED, id="two-lines"),
        pytest.param(("on",), 0, "", Progress.DONE, id="there-already"),
    ],
)
def test_a_key_is_planned_from_what_is_in_force(
    values: tuple[str, ...], lines: int, undo: str, progress: Progress
) -> None:
    """The last line is in force; what is there already is no change."""
    action = SetEnvKey(CONNECTION)
    params = SetEnvKeyParams(connection="h", env_file="app", key="MODE", value="on")
    seen = SeenEnv("/srv/data/.env", values)
    (effect,) = action.plan(params, seen)

    assert (lines, undo) == (effect.figures["lines"], effect.undo)
    assert progress is action.progress(effect, seen)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        pytest.param(b"", "1", b"MODE=1\n", id="empty-file"),
        pytest.param(b"A=1", "1", b"A=1\nMODE=1\n", id="no-end-of-line"),
        pytest.param(b"A=1\r\n", "1", b"A=1\r\nMODE=1\r\n", id="windows-ends"),
        pytest.param(b"#MODE=0\n", "1", b"#MODE=0\nMODE=1\n", id="comment"),
        pytest.param(b"MODE_2=0\nXMODE=0\n", "1", b"MODE_2=0\nXMODE=0\nMODE=1\n", id="other-names"),
        pytest.param(b" export MODE = 0\nB=\xff\n", "1", b" export MODE =1\nB=\xff\n", id="export"),
        pytest.param(b"MODE=0\nA=1\nMODE=2", "1", b"MODE=1\nA=1\n", id="twice"),
        pytest.param(b"A=1\nMODE=0\nB=2\n", None, b"A=1\nB=2\n", id="removed"),
        pytest.param(b"A=1\n", None, b"A=1\n", id="nothing-to-remove"),
    ],
)
def test_exactly_one_line(text: bytes, value: str | None, expected: bytes) -> None:
    """One line for the key, every other byte as it was."""
    assert expected == with_line(text, "MODE", value)


@given(
    lines=st.lists(st.sampled_from(["MODE=x", "export MODE=y", "A=1", "#MODE=z", "", "MODES=1"])),
    value=st.one_of(st.none(), st.sampled_from(["", "1", "a=b"])),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_a_line_that_was_written_is_read_again(lines: list[str], value: str | None, ends: str) -> None:
    """Whatever the file holds, afterwards the key has just that value, and all other lines are there in their order."""
    text = ends.join(lines).encode()
    after = with_line(text, "MODE", value)
    others = [line for line in lines if line.removeprefix("export ").split("=")[0] != "MODE" and line]
    left = [
        line for line in after.decode().splitlines() if not line.removeprefix("export ").startswith("MODE=")
    ]

    assert (() if value is None else (value,)) == values_of(after, "MODE")
    assert others == [line for line in left if line]


def test_only_files_that_may_go_are_wanted(tmp_path: Path) -> None:
    """Links, folders, second names, newer files, other owners and our own unfinished files are not."""
    wanted = Wanted(("*.bin",), cutoff_ns=2**62, owner_uid=None)
    one = tmp_path / "a.bin"
    one.write_bytes(b"x")
    found = one.lstat()

    assert wanted.fits("a.bin", found)
    assert not wanted.fits("a.txt", found)
    assert not wanted.fits(".remediator-new-a.bin", found)
    assert not replace(wanted, cutoff_ns=0).fits("a.bin", found)
    assert not replace(wanted, owner_uid=found.st_uid + 1).fits("a.bin", found)
    assert not wanted.fits("a.bin", tmp_path.lstat())
    (tmp_path / "second.bin").hardlink_to(one)
    assert not wanted.fits("a.bin", one.lstat())
    (tmp_path / "link.bin").symlink_to(one)
    assert not wanted.fits("link.bin", (tmp_path / "link.bin").lstat())


def test_permissions_name_just_the_folders() -> None:
    """What is printed are the folders of this one use."""
    prune = PruneCache(CONNECTION).permissions(PruneCacheParams(connection="h", cache="volumes"))
    logs = ArchiveLogs(CONNECTION).permissions(ArchiveLogsParams(connection="h", logs="api"))

    assert ("rw /srv/data/cache/",) == prune.files
    assert ("rw /srv/data/logs/", "rw /srv/archive/") == logs.files
