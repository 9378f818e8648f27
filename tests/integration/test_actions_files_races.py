"""What happens to the files actions in between: links swapped in, disks that fill up, files that come into use."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from remediator.actions.files import PruneCache
from remediator.domain.plans import Effect, Progress
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.rooted import Identity, folder, remove_exactly
from tests.support.files_cases import DAY, MIB, Case, backup, case_of, leftovers, sha, written
from tests.support.files_child import run_job
from tests.support.mounts import small_disk
from tests.support.swapper import swapping
from tests.support.waiting import eventually


async def effect_of(case: Case) -> Effect:
    """The one effect."""
    action, params = case.make(), case.parameters()
    (effect,) = action.plan(params, await action.observe(params))
    assert isinstance(effect, Effect)
    return effect


async def test_a_folder_swapped_for_a_link_while_we_prune(tmp_path: Path) -> None:
    """While somebody swaps a folder of the cache for a link to another with older files of the same names, again and
    again, not one file of the other goes.
    """
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    settings = {
        "roots": {"cache": str(cache)},
        "caches": {"volumes": {"folder": {"root": "cache"}, "limit_bytes": 1000}},
    }
    params = {
        "cache": "volumes",
        "measure": "limit",
        "above_percent": 2,
        "until_percent": 1,
        "max_files": 10,
    }
    case = Case(
        PruneCache,
        settings,
        params,
        "cache",
        look=dict,
        done=lambda _before, _after: True,
        spoil=lambda: None,
    )
    names = [f"{number:04}.bin" for number in range(1000)]
    for name in names:
        written(cache / "sub" / name, b"ours", age_seconds=9 * DAY)
        written(outside / name, b"theirs", age_seconds=90 * DAY)
        written(cache / f"new-{name}", b"new")
    effect = await effect_of(case)
    gone, deadline = 0, time.monotonic() + 60
    with swapping(cache / "sub", outside, aside=tmp_path / "real", stop=tmp_path / "stop"):
        while gone < 150 and time.monotonic() < deadline:
            gone += int((await case.make().apply(effect)).evidence["files"])

    assert names == sorted(path.name for path in outside.iterdir())
    assert gone == len(names) - len(list((cache / "sub").iterdir()))
    assert gone >= 150


async def test_a_name_that_means_another_file_by_now_stays(tmp_path: Path) -> None:
    """A file that took the place of a selected one, newer or a link, is given back its name."""
    old = written(tmp_path / "a.bin", b"old", age_seconds=9 * DAY)
    identity = Identity.of(old.stat())
    old.unlink()
    written(tmp_path / "a.bin", b"new")
    with folder(tmp_path) as held:
        newer = remove_exactly(held, "a.bin", identity)
        (tmp_path / "a.bin").unlink()
        (tmp_path / "a.bin").symlink_to("/etc/passwd")
        link = remove_exactly(held, "a.bin", identity)

    assert (False, False) == (newer, link)
    assert "/etc/passwd" == os.readlink(tmp_path / "a.bin")
    assert [] == leftovers(tmp_path)


@pytest.mark.parametrize("how", ["read", "write", "mapped"])
async def test_a_file_in_use_stays(how: str, tmp_path: Path) -> None:
    """Whether it is open for reading, for writing, or only mapped, a file in use is not pruned; later it is."""
    with case_of("files.prune_cache", tmp_path) as case:
        oldest = tmp_path / "disk" / "cache" / "sub" / "old-00.bin"
        with oldest.open("r+b" if how == "write" else "rb") as file:
            view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if how == "mapped" else None
            if view is not None:
                file.close()
            result = await case.make().apply(await effect_of(case))
            if view is not None:
                view.close()

        assert oldest.exists()
        assert 2 == result.evidence["in_use"]
        assert result.changed


@pytest.mark.parametrize("confined", ["another user", "a container"])
async def test_a_file_of_which_nobody_knows_stays(confined: str, tmp_path: Path) -> None:
    """Where we may take no lease and /proc does not show every process of the host, nothing is pruned at all: neither
    as a user who owns only the folder, nor as root in a namespace of its own without CAP_LEASE.
    """
    home = Path(tempfile.mkdtemp(prefix="remediator-test-"))
    home.chmod(0o755)
    try:
        with case_of("files.prune_cache", home) as case:
            for path in (home / "disk" / "cache", home / "disk" / "cache" / "sub"):
                os.chown(path, 65_534, 65_534)
            for path in (home / "disk" / "cache").rglob("*.bin"):
                os.chown(path, 1234, 1234, follow_symlinks=False)
            before, effect = case.look(), await effect_of(case)
            job = {
                "kind": "files.prune_cache",
                "connection": case.connection.model_dump(mode="json"),
                "params": {},
                "effect": asdict(effect),
                "limit_bytes": None,
                "uid": 65_534 if confined == "another user" else None,
                "undo": False,
            }
            ended = run_job(job, container=confined == "a container")
            came = json.loads(ended.stdout or "{}")

            assert (False, 0) == (came["result"]["changed"], came["result"]["evidence"]["files"]), (
                ended.stderr
            )
            assert 21 == came["result"]["evidence"]["in_use"]
            assert before == case.look()
    finally:
        shutil.rmtree(home)


async def test_a_model_that_is_a_link_is_not_replaced(tmp_path: Path) -> None:
    """Neither a model nor a backup nor an env file is read through a link."""
    secret = written(tmp_path / "secret", b"theirs")
    with case_of("files.rollback_model", tmp_path) as case:
        live = tmp_path / "models" / "best_model.pth"
        live.unlink()
        live.symlink_to(secret)
        with pytest.raises(Refused, match="no regular file"):
            await case.make().observe(case.parameters())
    with case_of("files.set_env_key", tmp_path / "app-home") as case:
        env = tmp_path / "app-home" / "app" / ".env"
        env.unlink()
        env.symlink_to(secret)
        with pytest.raises(Refused, match="no regular file"):
            await case.make().observe(case.parameters())

    assert b"theirs" == secret.read_bytes()


async def test_a_backup_that_is_a_link_is_passed_over(tmp_path: Path) -> None:
    """A link among the backups that has the right name, manifest and content is not trusted."""
    with case_of("files.rollback_model", tmp_path) as case:
        aside = backup(tmp_path, b"planted", "20260101T000000Z")
        (tmp_path / "backups" / aside.name).symlink_to(aside)
        (tmp_path / "backups" / f"{aside.name}.sha256").write_text(f"{sha(b'planted')}  {aside.name}\n")
        effect = await effect_of(case)

    assert "20250301T000000Z" in effect.before["backup"]
    assert "passed over" in effect.summary


async def test_no_other_verified_backup_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    """Where every other backup is damaged, the plan says so and why; a wanted SHA-256 that is not there too."""
    with case_of("files.rollback_model", tmp_path) as case:
        for path in (tmp_path / "backups").glob("*.pth"):
            if b"bad" not in path.read_bytes():
                path.write_bytes(b"x")
        action, params = case.make(), case.parameters()
        with pytest.raises(NothingSelected, match="its SHA-256 is another"):
            action.plan(params, await action.observe(params))
        other = case.parameters(sha256="0" * 64)
        with pytest.raises(NothingSelected, match="nothing to go back to"):
            action.plan(other, await action.observe(other))


async def test_an_undo_does_not_overwrite_what_came_later(tmp_path: Path) -> None:
    """When somebody put a third model there since, the undo leaves it."""
    with case_of("files.rollback_model", tmp_path) as case:
        effect = await effect_of(case)
        result = await case.make().apply(effect)
        live = tmp_path / "models" / "best_model.pth"
        live.write_bytes(b"third")

        with pytest.raises(Drifted):
            await case.make().undo(effect, result)

        assert b"third" == live.read_bytes()


async def test_a_model_that_is_missing_comes_back(tmp_path: Path) -> None:
    """Without a live file the newest verified backup takes its place; there is nothing to keep and nothing to undo."""
    with case_of("files.rollback_model", tmp_path) as case:
        live = tmp_path / "models" / "best_model.pth"
        live.unlink()
        effect = await effect_of(case)
        result = await case.make().apply(effect)

        assert result.changed
        assert "20250401T000000Z" in effect.before["backup"]
        assert b"bad" * 100_000 == live.read_bytes()
        assert "" == effect.undo


async def test_a_full_disk_keeps_the_logs(tmp_path: Path) -> None:
    """When the archive's disk is full in the middle of a log, that log stays and no half archive does."""
    with case_of("files.archive_logs", tmp_path) as case, small_disk(tmp_path / "tiny", 256 * 1024) as tiny:
        settings = {**case.settings}
        settings["logs"]["app"]["archive"] = {"root": "home", "path": "tiny"}
        logs = tmp_path / "logs"
        written(logs / "big.log.1", os.urandom(MIB), age_seconds=9 * DAY)
        effect = await effect_of(case)
        with pytest.raises(PermanentFailure, match="No space left"):
            await case.make().apply(effect)

        assert (logs / "big.log.1").exists()
        assert [] == list(tiny.iterdir())

        written(logs / "small.log.1", b"small\n", age_seconds=10 * DAY)
        effect = await effect_of(case)
        with pytest.raises(OutcomeUnknown, match="1 files were archived by then"):
            await case.make().apply(effect)

        assert not (logs / "small.log.1").exists()
        assert (logs / "big.log.1").exists()
        assert ["small.log.1"] == [path.name.rsplit("_", 2)[0] for path in tiny.iterdir()]


async def test_a_full_disk_keeps_the_settings_and_the_model(tmp_path: Path) -> None:
    """On a disk without room for a second copy, neither an env file nor a model changes."""
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        (disk / "a").mkdir()
        (disk / "b").mkdir()
        with (
            case_of("files.set_env_key", disk / "a") as env,
            case_of("files.rollback_model", disk / "b") as model,
        ):
            (effect_of_env, effect_of_model) = (await effect_of(env), await effect_of(model))
            before = (env.look(), model.look())
            fill(disk / "filler")
            with pytest.raises(PermanentFailure, match="No space left"):
                await env.make().apply(effect_of_env)
            with pytest.raises(PermanentFailure, match="no room"):
                await model.make().apply(effect_of_model)
            after = (env.look(), model.look())

            assert before == after
            assert [] == leftovers(disk)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        size = MIB
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


async def test_an_archive_on_the_same_disk_is_refused(tmp_path: Path) -> None:
    """Logs that fill a disk are not archived onto it."""
    with case_of("files.archive_logs", tmp_path) as case:
        (tmp_path / "beside").mkdir()
        case.settings["logs"]["app"]["archive"] = {"root": "home", "path": "beside"}
        with pytest.raises(Refused, match="lies on the file system of the logs"):
            await effect_of(case)


async def test_many_lines_of_a_key_become_one(tmp_path: Path) -> None:
    """Where a key was appended again and again, and the last line has no end, one line is left; all else stays."""
    with case_of("files.set_env_key", tmp_path) as case:
        env = tmp_path / "app" / ".env"
        env.write_bytes(b"A=1\r\nEMERGENCY_MODE=true\r\nB=2\r\nEMERGENCY_MODE=false")
        effect = await effect_of(case)
        result = await case.make().apply(effect)
        one = env.read_bytes()
        await case.make().undo(effect, result)

        assert b"A=1\r\nEMERGENCY_MODE=true\r\nB=2\r\n" == one
        assert b"A=1\r\nEMERGENCY_MODE=false\r\nB=2\r\n" == env.read_bytes()


async def test_a_key_that_was_not_there_is_removed_again(tmp_path: Path) -> None:
    """A new key gets a line of its own, even after a last line without an end, and the undo removes it."""
    with case_of("files.set_env_key", tmp_path) as case:
        env = tmp_path / "app" / ".env"
        env.write_bytes(b"A=1\nNOT_EMERGENCY_MODE=x")
        effect = await effect_of(case)
        result = await case.make().apply(effect)
        there = env.read_bytes()
        await case.make().undo(effect, result)

        assert b"A=1\nNOT_EMERGENCY_MODE=x\nEMERGENCY_MODE=true\n" == there
        assert b"A=1\nNOT_EMERGENCY_MODE=x\n" == env.read_bytes()


async def test_a_value_that_is_there_is_no_change(tmp_path: Path) -> None:
    """Set already, the plan says so and stands, so that the playbook's other steps are done."""
    with case_of("files.set_env_key", tmp_path) as case:
        case.params["value"] = "false"
        effect = await effect_of(case)
        result = await case.make().apply(effect)

        assert "already" in effect.summary
        assert not result.changed


async def test_a_model_that_is_kept_already_is_not_copied_again(tmp_path: Path) -> None:
    """A second backup of the same content is none, and the plan stands."""
    with case_of("files.backup_model", tmp_path) as case:
        await case.make().apply(await effect_of(case))
        there = case.look()
        effect = await effect_of(case)
        result = await case.make().apply(effect)

        assert "already" in effect.summary
        assert not result.changed
        assert there == case.look()


async def test_cancelled_in_the_middle_nothing_is_half_done(tmp_path: Path) -> None:
    """A rollback that is cancelled while it copies has ended when the cancellation arrives: the model is whole, and
    no unfinished file is left.
    """
    with case_of("files.rollback_model", tmp_path) as case:
        good = os.urandom(MIB) * 96
        backup(tmp_path / "backups", good, "20260101T000000Z")
        effect = await effect_of(case)
        before = (tmp_path / "models" / "best_model.pth").read_bytes()
        work = asyncio.ensure_future(case.make().apply(effect))

        async def begun() -> bool:
            return bool(leftovers(tmp_path)) or work.done()

        await eventually(begun, within=60, every=0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        action = case.make()
        seen = action.progress(effect, await action.observe(case.parameters()))
        now = (tmp_path / "models" / "best_model.pth").read_bytes()

        assert [] == leftovers(tmp_path)
        assert (Progress.UNTOUCHED, True) == (seen, now == before)


async def test_versions_stay_where_nobody_knows_which_serves(tmp_path: Path) -> None:
    """When what serves leads nowhere, nothing is pruned; a version with the content of the file that serves stays."""
    with case_of("files.prune_versions", tmp_path) as case:
        current = tmp_path / "releases" / "current"
        current.unlink()
        with pytest.raises(PermanentFailure, match="nobody knows which"):
            await effect_of(case)
        current.symlink_to("model-9.bento")
        with pytest.raises(PermanentFailure, match="nobody knows which"):
            await effect_of(case)
        current.unlink()
        current.write_bytes(b"3" * 1000)
        effect = await effect_of(case)

        assert ["model-4.bento", "model-2.bento", "model-0.bento"] == list(effect.before["files"])
