"""The contract of every files action, on the real file system: full disks, killed processes, other users' rights."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.domain.plans import Effect, Progress
from remediator.errors import ActionError, Drifted, OutcomeUnknown, PermanentFailure, Refused
from tests.support.contract import each_of
from tests.support.files_cases import MAKERS, Case, case_of, leftovers
from tests.support.files_child import run_job

HOSTILE = (
    "../etc",
    "/etc/passwd",
    "app;reboot",
    "app\nother",
    "*",
    "",
    ".",
    "..",
    "of-other-tenants",
    "a" * 300,
    "a\0b",
)
REVERSIBLE = ("files.archive_logs", "files.rollback_model", "files.set_env_key")
NOBODY = 65_534


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def case(kind: str, tmp_path: Path) -> Iterator[Case]:
    """A use of the action of that kind."""
    with case_of(kind, tmp_path) as made:
        yield made


async def planned(case: Case) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    action, params = case.make(), case.parameters()
    effects = action.plan(params, await action.observe(params))
    assert len(effects) == 1
    return Effect(**json.loads(json.dumps(asdict(effects[0]))))


async def progress(case: Case, effect: Effect) -> Progress:
    """What a second look says."""
    action = case.make()
    found: Progress = action.progress(effect, await action.observe(case.parameters()))
    return found


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(kind: str, case: Case) -> None:
    """Planning twice promises the same, with figures, and leaves every file as it was."""
    before = case.look()
    first, second = await planned(case), await planned(case)

    assert (first.before, first.at_most) == (second.before, second.at_most)
    assert kind == first.action
    assert str(case.params[case.subject]) in first.summary or kind == "files.set_env_key"
    assert any(first.figures.values())
    assert case.irreversible == first.irreversible
    assert (kind in REVERSIBLE) == bool(first.undo)
    assert Progress.UNTOUCHED is await progress(case, first)
    assert before == case.look()


@each("apply")
async def test_apply_does_what_was_planned(kind: str, case: Case, tmp_path: Path) -> None:
    """After apply the files are as planned, nothing of ours is left lying about, and a second look agrees."""
    before, effect = case.look(), await planned(case)

    result = await case.make().apply(effect)

    assert result.changed
    assert case.done(before, case.look())
    assert [] == leftovers(tmp_path)
    if kind == "files.archive_logs":
        # One rotated log is open still: archiving is not over.
        assert Progress.UNTOUCHED is await progress(case, effect)
    else:
        assert Progress.DONE is await progress(case, effect)


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, case: Case) -> None:
    """Applying the same effect again changes no file and says so."""
    effect = await planned(case)
    await case.make().apply(effect)
    after = case.look()

    again = await case.make().apply(effect)

    assert not again.changed
    assert after == case.look()


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, case: Case) -> None:
    """What somebody else changed after the plan is left as they changed it."""
    effect = await planned(case)
    case.spoil()
    spoilt = case.look()

    with pytest.raises(Drifted):
        await case.make().apply(effect)

    assert spoilt == case.look()


@each("undo")
async def test_undo_restores_or_says_that_nothing_can(kind: str, case: Case, tmp_path: Path) -> None:
    """What can be taken back is as before afterwards, and a second undo changes nothing; the rest is refused."""
    before, effect = case.look(), await planned(case)
    result = await case.make().apply(effect)
    if case.undone is None:
        with pytest.raises(Refused):
            await case.make().undo(effect, result)
        return

    first = await case.make().undo(effect, result)
    restored = case.look()
    second = await case.make().undo(effect, result)

    assert first.changed
    assert not second.changed
    assert case.undone(before, restored)
    assert restored == case.look()
    assert [] == leftovers(tmp_path)


@each("hostile")
async def test_hostile_names_are_refused(kind: str, case: Case) -> None:
    """A name that is a path, holds a separator or a wildcard, or is of nobody, is no parameter or is refused; so is an
    effect that was changed to name it.
    """
    before, effect, action = case.look(), await planned(case), case.make()
    for value in HOSTILE:
        with pytest.raises((ValidationError, Refused)):
            await action.observe(case.parameters(**{case.subject: value}))
        forged = replace(effect, params={**effect.params, case.subject: value})
        with pytest.raises((ValidationError, Refused)):
            await action.apply(forged)

    assert before == case.look()


@each("dies", [kind for kind in MAKERS if "prune" not in kind])
async def test_a_process_that_is_killed_leaves_whole_files(kind: str, case: Case) -> None:
    """Killed in the middle of a write, everything that anybody reads is as before; the same effect then does it all."""
    before, effect = case.look(), await planned(case)
    job = {
        "kind": kind,
        "connection": case.connection.model_dump(mode="json"),
        "params": {},
        "effect": asdict(effect),
        "limit_bytes": case.writes_bytes,
        "uid": None,
        "undo": False,
    }

    ended = run_job(job)
    killed = case.look()
    seen = await progress(case, effect)
    again = await case.make().apply(effect)

    assert -signal.SIGXFSZ == ended.returncode, ended.stderr
    assert before == killed
    assert Progress.UNTOUCHED is seen
    assert again.changed
    assert case.done(before, case.look())


@each("dies", ["files.prune_cache", "files.prune_versions"])
async def test_a_disk_that_refuses_half_way_leaves_a_defined_outcome(kind: str, case: Case) -> None:
    """When the file system refuses a removal after others succeeded, it is told how many went; the same effect then
    does the rest.
    """
    before, effect = case.look(), await planned(case)
    name = "old-03.bin" if kind == "files.prune_cache" else "model-3.bento"
    (stuck,) = [path for path in before if path.endswith(name)]

    set_immutable(Path(stuck), on=True)
    try:
        with pytest.raises(OutcomeUnknown, match=r"\d+ (files|versions) were gone by then"):
            await case.make().apply(effect)
    finally:
        set_immutable(Path(stuck), on=False)
    half = case.look()
    seen = await progress(case, effect)
    again = await case.make().apply(effect)

    assert stuck in half
    assert 0 < len(before) - len(half)
    assert Progress.UNTOUCHED is seen
    assert again.changed
    assert case.done(before, case.look())


def set_immutable(path: Path, *, on: bool) -> None:
    """Have the file system refuse to remove or rename a file (FS_IMMUTABLE_FL)."""
    get, set_, immutable = 0x80086601, 0x40086602, 0x10
    with path.open("rb") as file:
        (flags,) = struct.unpack("l", fcntl.ioctl(file, get, struct.pack("l", 0)))
        flags = flags | immutable if on else flags & ~immutable
        fcntl.ioctl(file, set_, struct.pack("l", flags))


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A folder that every user gets to: pytest's own are closed to all but us."""
    home = Path(tempfile.mkdtemp(prefix="remediator-test-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


@each("privilege")
def test_the_printed_rights_are_enough_and_one_less_is_not(kind: str, open_home: Path) -> None:
    """As another user, with rights on just the printed paths, all of it works; without any one of them it does not."""
    with ExitStack() as stack:
        cases = count()
        rights: tuple[str, ...] | None = None
        while rights is None or rights:
            home = open_home / str(next(cases))
            home.mkdir(mode=0o755)
            case = stack.enter_context(case_of(kind, home))
            every = case.make().permissions(case.parameters()).files
            left = every if rights is None else every[-len(rights) :]
            for right in every:
                grant(right, case, home, given=right != left[0])
            before, came = case.look(), as_nobody(case)
            after = case.look()

            assert came.get("error") == "PermanentFailure", (left[0], came)
            assert before == {name: after.get(name) for name in before}, left[0]
            rights = left[1:]

        home = open_home / "enough"
        home.mkdir(mode=0o755)
        case = stack.enter_context(case_of(kind, home))
        for right in case.make().permissions(case.parameters()).files:
            grant(right, case, home, given=True)

        assert as_nobody(case)["result"]["changed"]


def as_nobody(case: Case) -> dict[str, Any]:
    """Observe, plan and apply in a process of another user; what came of it."""
    ended = run_job(
        {
            "kind": case.action.kind,
            "connection": case.connection.model_dump(mode="json"),
            "params": case.parameters().model_dump(mode="json"),
            "effect": None,
            "limit_bytes": None,
            "uid": NOBODY,
            "undo": False,
        }
    )
    assert ended.returncode == 0, ended.stderr
    came: dict[str, Any] = json.loads(ended.stdout)
    return came


def grant(right: str, case: Case, home: Path, *, given: bool) -> None:
    """Give nobody a right as it is printed, or take care that he has it not."""
    what, _, where = right.partition(" ")
    if right.startswith("owner of "):
        path = home / "app" / right.removeprefix("owner of ")
        os.chown(path, NOBODY if given else 0, NOBODY)
        return
    path = Path(where)
    if what == "r":
        path.chmod(0o644 if given else 0o600)
        os.chown(path, NOBODY if given else 0, 0)
        return
    for inner in [path, *path.rglob("*")]:
        if inner.is_symlink():
            continue
        if given or inner.is_file():
            os.chown(inner, NOBODY, NOBODY)
        else:
            os.chown(inner, 0, 0)
            inner.chmod(0o555)


async def test_a_value_of_two_lines_is_no_value(tmp_path: Path) -> None:
    """Whatever would make a second line, a comment or a reference is refused before the file is read."""
    with case_of("files.set_env_key", tmp_path) as case:
        before = case.look()
        for value in (
            "true\nDB_PASSWORD=mine",
            "true\r",
            "$(reboot)",
            "`reboot`",
            "a b",
            "a#b",
            '"',
            "a\\nb",
            "\0",
        ):
            with pytest.raises(ValidationError):
                case.parameters(value=value)
        for key in ("DB_PASSWORD", "API_KEY", "A B", "A=B", "", "A\nB"):
            with pytest.raises(ValidationError):
                case.parameters(key=key)
        with pytest.raises(Refused, match="none of the values"):
            await case.make().observe(case.parameters(value="maybe"))
        with pytest.raises(Refused, match="not among the keys"):
            await case.make().observe(case.parameters(key="A"))

        assert before == case.look()


async def test_nothing_goes_below_the_floors_of_the_connection(tmp_path: Path) -> None:
    """Parameters only make the age limit and the number of kept files larger."""
    floors = {
        "files.prune_cache": {"min_age_seconds": 3600},
        "files.archive_logs": {"min_age_seconds": 60},
        "files.backup_model": {"keep": 2},
        "files.rollback_model": {"keep": 1},
        "files.prune_versions": {"keep": 1},
    }
    for number, (kind, less) in enumerate(floors.items()):
        home = tmp_path / str(number)
        home.mkdir()
        with case_of(kind, home) as case:
            before = case.look()
            with pytest.raises(Refused):
                await case.make().observe(case.parameters(**less))

            assert before == case.look()


async def test_another_full_disk_is_none_of_our_cache(tmp_path: Path) -> None:
    """When the disk that the alert names is not the cache's, or the cache's own is not full, nothing goes."""
    with case_of("files.prune_cache", tmp_path) as case:
        before, action = case.look(), case.make()
        elsewhere = case.parameters(mountpoint="/")
        seen = await action.observe(elsewhere)
        with pytest.raises(Refused, match="does not lie there"):
            action.plan(elsewhere, seen)
        (tmp_path / "disk" / "filler").write_bytes(b"")
        enough = case.parameters()
        seen = await action.observe(enough)
        with pytest.raises(ActionError, match="not above 80%"):
            action.plan(enough, seen)

        del before[str(tmp_path / "disk" / "filler")]
        after = case.look()
        del after[str(tmp_path / "disk" / "filler")]
        assert before == after


async def test_a_folder_is_reached_through_no_link(tmp_path: Path) -> None:
    """When a part of a configured path has become a link, everything is refused, whatever it leads to."""
    for number, kind in enumerate(MAKERS):
        home = tmp_path / str(number) / "home"
        home.mkdir(parents=True)
        with case_of(kind, home) as case:
            effect = await planned(case)
            home.rename(tmp_path / str(number) / "elsewhere")
            home.symlink_to(tmp_path / str(number) / "elsewhere")
            before = case.look()
            with pytest.raises(Refused, match="symbolic link"):
                await case.make().observe(case.parameters())
            with pytest.raises((Refused, PermanentFailure)):
                await case.make().apply(effect)

            assert before == case.look()
            home.unlink()
            (tmp_path / str(number) / "elsewhere").rename(home)
