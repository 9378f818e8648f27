"""The contract of evidence.capture, on real files, a real Redis, a real HTTP server and a real Docker engine."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.evidence import Capture, CaptureParams, EvidenceConnection
from remediator.domain.plans import Effect, Progress
from remediator.errors import ActionError, Drifted, PermanentFailure, Refused
from remediator.rooted import folder
from tests.support.dockerd import BUSYBOX, DockerEngine
from tests.support.files_child import run_job
from tests.support.redis import RedisServer
from tests.support.waiting import until

contract = pytest.mark.contract
KIND = "evidence.capture"
NOBODY = 65534
LOG = "line one\npassword=hunter2 token: abcdef Bearer abcdefghijkl\npatient MRN-0012345 name\n"


@pytest.fixture
def given(tmp_path: Path, redis_server: RedisServer) -> dict[str, Any]:
    """A connection with a log and a Redis."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "app.log").write_text(LOG)
    with redis_server.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.set("session:1", "alice")
        client.config_set("slowlog-log-slower-than", 10_000)
    return {
        "kind": "evidence",
        "directory": str(tmp_path / "kept"),
        "max_bytes": 100_000,
        "min_free_bytes": 0,
        "hide": [r"MRN-\d+"],
        "sources": {
            "log": {"type": "file", "path": str(tmp_path / "app.log")},
            "redis": {"type": "redis", "url": redis_server.url()},
        },
    }


def _action(given: dict[str, Any], **more: Any) -> Capture:
    return Capture(EvidenceConnection.model_validate({**given, **more}))


def _params(**more: Any) -> CaptureParams:
    return CaptureParams.model_validate({"connection": "it", "sources": ["log", "redis"], **more})


async def _planned(action: Capture, **more: Any) -> Effect:
    params = _params(**more)
    (effect,) = action.plan(params, await action.observe(params))
    return Effect(**json.loads(json.dumps(asdict(effect))))


def _tree(given: dict[str, Any]) -> dict[str, bytes]:
    root = Path(given["directory"])
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contract(KIND, "plan")
async def test_a_plan_changes_nothing(given: dict[str, Any]) -> None:
    """It tells the directory and the bound, twice the same."""
    action = _action(given)
    first, second = await _planned(action), await _planned(action)

    assert (first.before, first.after) == (second.before, second.after)
    assert first.subject.endswith("/kept/evidence-0001")
    assert Progress.UNTOUCHED is action.progress(first, await action.observe(_params()))
    assert {} == _tree(given)


@contract(KIND, "apply")
async def test_apply_keeps_what_was_said_without_secrets(given: dict[str, Any]) -> None:
    """The files and their manifest are there, hashes fit, and neither secret, identifier nor argument is."""
    action = _action(given)
    effect = await _planned(action)
    result = await action.apply(effect)
    kept = _tree(given)
    manifest = json.loads(kept["evidence-0001/manifest.json"])

    assert result.changed
    assert Progress.DONE is action.progress(effect, await action.observe(_params()))
    assert {"evidence-0001/log.txt", "evidence-0001/redis.txt", "evidence-0001/manifest.json"} == set(kept)
    assert b"line one" in kept["evidence-0001/log.txt"]
    for hidden in (b"hunter2", b"abcdef", b"MRN-0012345", b"alice", b"session:1"):
        assert all(hidden not in text for text in kept.values()), hidden
    for listed in manifest["files"]:
        assert listed["sha256"] == hashlib.sha256(kept[f"evidence-0001/{listed['file']}"]).hexdigest()
    assert b"redis_version" in kept["evidence-0001/redis.txt"]
    assert LOG == Path(given["sources"]["log"]["path"]).read_text()


@contract(KIND, "reapply")
async def test_a_second_apply_does_nothing(given: dict[str, Any]) -> None:
    """The directory is left as it is, also once a later one came."""
    action = _action(given)
    effect = await _planned(action)
    await action.apply(effect)
    await action.apply(await _planned(action))
    before = _tree(given)
    again = await action.apply(effect)

    assert not again.changed
    assert before == _tree(given)


@contract(KIND, "stale")
async def test_a_stale_plan_is_refused(given: dict[str, Any]) -> None:
    """Where another capture took the number, nothing is written over it."""
    action = _action(given)
    effect = await _planned(action)
    await action.apply(await _planned(action, sources=["log"]))
    before = _tree(given)
    with pytest.raises(Drifted):
        await action.apply(effect)

    assert Progress.UNCLEAR is action.progress(effect, await action.observe(_params()))
    assert before == _tree(given)


@contract(KIND, "undo")
async def test_evidence_is_not_taken_back(given: dict[str, Any]) -> None:
    """Undo refuses and the directory stays."""
    action = _action(given)
    effect = await _planned(action)
    result = await action.apply(effect)
    before = _tree(given)
    with pytest.raises(Refused):
        await action.undo(effect, result)

    assert before == _tree(given)


@contract(KIND, "hostile")
@pytest.mark.parametrize(
    "hostile",
    [
        {"sources": []},
        {"sources": ["log", "log"]},
        {"sources": ["/etc/passwd"]},
        {"sources": ["other"]},
        {"sources": ["../log"]},
        {"sources": ["*"]},
        {"capture": "../x"},
        {"capture": "a/b"},
        {"capture": ""},
        {"capture": "a;b"},
        {"capture": "a\n"},
        {"path": "/etc/passwd"},
    ],
)
async def test_hostile_parameters_are_refused(given: dict[str, Any], hostile: dict[str, Any]) -> None:
    """Only the connection's sources are read, into its directory alone; in a forged effect too."""
    action = _action(given)
    effect = await _planned(action)
    with pytest.raises((ValidationError, ActionError)):
        await _planned(action, **hostile)
    with pytest.raises((ValidationError, ActionError)):
        await action.apply(replace(effect, params={**effect.params, **hostile}))

    assert {} == _tree(given)


@contract(KIND, "hostile")
async def test_links_are_not_followed(given: dict[str, Any], tmp_path: Path) -> None:
    """Neither a source nor the directory is reached through a symbolic link."""
    log = tmp_path / "app.log"
    log.unlink()
    log.symlink_to("/etc/passwd")
    action = _action(given)
    with pytest.raises(PermanentFailure, match="no source"):
        await action.apply(await _planned(action, sources=["log"]))
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(Refused):
        await _planned(_action(given, directory=str(tmp_path / "link")))

    assert {} == _tree(given)


@contract(KIND, "dies")
async def test_a_source_that_is_gone_is_noted(given: dict[str, Any], redis_server: RedisServer) -> None:
    """The rest is kept, and the manifest says what could not be had."""
    action = _action(given)
    effect = await _planned(action)
    redis_server.kill()
    result = await action.apply(effect)

    assert "not to be had: redis" in result.summary
    assert "error" in json.loads(_tree(given)["evidence-0001/manifest.json"])["sources"]["redis"]


@contract(KIND, "dies")
async def test_a_capture_that_is_killed_while_it_writes_is_none(
    given: dict[str, Any], tmp_path: Path
) -> None:
    """Killed in the middle of a file, what is half-written is never taken for evidence; the same effect then does it
    all, and sweeps what was left.
    """
    (tmp_path / "big.log").write_text("".join(f"line {number:06d}\n" for number in range(5000)))
    given["sources"] = {
        "log": given["sources"]["log"],
        "big": {"type": "file", "path": str(tmp_path / "big.log")},
    }
    action = _action(given)
    effect = await _planned(action, sources=["log", "big"])

    ended = run_job(_job(given, effect=asdict(effect), limit_bytes=20_000))
    root = Path(given["directory"])
    (half,) = root.iterdir()
    left = {path.name: path.stat().st_size for path in half.iterdir()}
    seen = await action.observe(_params(sources=["log"]))

    assert -signal.SIGXFSZ == ended.returncode, ended.stderr
    assert ({"log.txt", "big.txt"}, 20_000) == (set(left), left["big.txt"])
    assert half.name.startswith(".remediator-")
    assert ("evidence-0001", {}) == (seen.following, seen.keys)
    assert Progress.UNTOUCHED is action.progress(effect, seen)
    assert (await action.apply(effect)).changed
    assert ["evidence-0001"] == os.listdir(root)
    assert {"log.txt", "big.txt", "manifest.json"} == set(os.listdir(root / "evidence-0001"))


async def test_what_is_being_written_is_not_swept(given: dict[str, Any]) -> None:
    """While somebody writes there nothing is swept; what he leaves goes once he is gone."""
    root = Path(given["directory"])
    half = root / ".remediator-evidence-0123456789abcdef"
    half.mkdir()
    (half / "log.txt").write_text("line one\n")
    action = _action(given)
    with folder(root) as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        await action.apply(await _planned(action, sources=["log"]))
        during = sorted(os.listdir(root))
    await action.apply(await _planned(action, sources=["log"]))

    assert [half.name, "evidence-0001"] == during
    assert ["evidence-0001", "evidence-0002"] == sorted(os.listdir(root))


def _job(given: dict[str, Any], **more: Any) -> dict[str, Any]:
    job = {"kind": KIND, "connection": given, "params": {}, "effect": None}
    return {**job, "limit_bytes": None, "uid": None, "undo": False, **more}


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A folder that every user gets to: pytest's own are closed to all but us."""
    home = Path(tempfile.mkdtemp(prefix="remediator-test-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


@contract(KIND, "privilege")
@pytest.mark.parametrize("missing", ["", "rw", "r"])
def test_the_printed_rights_on_files_are_enough_and_one_less_is_not(open_home: Path, missing: str) -> None:
    """As another user, with rights on just the printed paths, it captures; without any one of them nothing is kept."""
    kept, log = open_home / "kept", open_home / "app.log"
    kept.mkdir(mode=0o700)
    log.write_text(LOG)
    log.chmod(0o600)
    sources = {"log": {"type": "file", "path": str(log)}}
    given = {"kind": "evidence", "directory": str(kept), "min_free_bytes": 0, "sources": sources}
    params = _params(sources=["log"])
    printed = _action(given).permissions(params).files
    assert (f"rw {kept}", f"r {log}") == printed
    for right in printed:
        how, _, path = right.partition(" ")
        if how != missing:
            os.chown(path, NOBODY, NOBODY)

    ended = run_job(_job(given, params=params.model_dump(mode="json"), uid=NOBODY))

    assert 0 == ended.returncode, ended.stderr
    came = json.loads(ended.stdout)
    if missing:
        assert "PermanentFailure" == came["error"]
        assert [] == os.listdir(kept)
    else:
        assert came["result"]["changed"]
        assert ["evidence-0001"] == os.listdir(kept)


@contract(KIND, "privilege")
async def test_the_printed_redis_rights_are_enough_and_one_less_is_not(
    given: dict[str, Any], tmp_path: Path, redis_server: RedisServer
) -> None:
    """A user with just the printed rules says all that is asked for; without any one of them he does not."""
    (tmp_path / "password").write_text("open-sesame-1")
    user = {"username": "reader", "password_file": str(tmp_path / "password")}
    given["sources"] = {"redis": {**given["sources"]["redis"], "url": redis_server.url(db=1), **user}}
    action = _action(given)
    printed = action.permissions(_params(sources=["redis"])).redis
    with redis_server.client() as client:
        for missing in printed:
            rules = [rule for rule in printed if rule != missing]
            client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">open-sesame-1", *rules)
            with pytest.raises(PermanentFailure, match="no source could be read"):
                await action.apply(await _planned(action, sources=["redis"]))
        client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">open-sesame-1", *printed)

    assert {} == _tree(given)
    assert (await action.apply(await _planned(action, sources=["redis"]))).changed


async def test_a_full_disk_is_refused(given: dict[str, Any]) -> None:
    """Less than the margin is left: nothing is captured."""
    with pytest.raises(Refused, match="do not fit"):
        await _planned(_action(given, min_free_bytes=2**60))

    assert [] == os.listdir(given["directory"])


async def test_the_end_is_kept_in_whole_lines(given: dict[str, Any], tmp_path: Path) -> None:
    """A long file is cut to its share at the beginning of a line."""
    (tmp_path / "app.log").write_text("".join(f"line {number:06d}\n" for number in range(5000)))
    await _action(given, max_bytes=10_000).apply(await _planned(_action(given), sources=["log"]))
    kept = _tree(given)["evidence-0001/log.txt"].decode()

    assert len(kept) <= 10_000
    assert kept.startswith("line ")
    assert kept.endswith("line 004999\n")


async def test_docker_logs_and_state(given: dict[str, Any], docker_engine: DockerEngine) -> None:
    """A container's log and its state are kept."""
    client = docker_engine.client()
    client.containers.run(BUSYBOX, ["sh", "-c", "echo started; sleep 600"], name="api", detach=True)
    until(lambda: b"started" in client.containers.get("api").logs())
    client.close()
    at = {"base_url": docker_engine.base_url, "container": "api"}
    sources = {"logs": {"type": "docker_logs", **at}, "state": {"type": "docker_stats", **at}}
    action = _action(given, sources=sources)
    await asyncio.wait_for(action.apply(await _planned(action, sources=["logs", "state"])), 60)
    kept = _tree(given)

    assert b"started" in kept["evidence-0001/logs.txt"]
    assert b'"Running": true' in kept["evidence-0001/state.txt"]


async def test_a_page(given: dict[str, Any]) -> None:
    """A page is kept with its status."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 no\r\nContent-Length: 5\r\nConnection: close\r\n\r\nup 0\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
    action = _action(given, sources={"page": {"type": "http", "url": url}})
    await action.apply(await _planned(action, sources=["page"]))
    server.close()
    await server.wait_closed()

    assert b"HTTP 500\nup 0\n" == _tree(given)["evidence-0001/page.txt"]


async def test_the_journal_is_read_by_journalctl(given: dict[str, Any], tmp_path: Path) -> None:
    """The real journalctl is run on a journal's directory; one without entries gives an empty file, one that is not there a note."""
    (tmp_path / "journal").mkdir()
    sources = {
        "empty": {"type": "journal", "unit": "api.service", "directory": str(tmp_path / "journal")},
        "gone": {"type": "journal", "unit": "api.service", "directory": str(tmp_path / "nowhere")},
    }
    action = _action(given, sources=sources)
    result = await action.apply(await _planned(action, sources=["empty", "gone"]))

    assert b"" == _tree(given)["evidence-0001/empty.txt"]
    assert "not to be had: gone" in result.summary
