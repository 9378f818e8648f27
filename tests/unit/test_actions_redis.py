"""Redis actions: what their pure parts make of what was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.redis import (
    BackgroundSave,
    BackgroundSaveParams,
    FlushDb,
    FlushDbParams,
    MemoryPurge,
    MemoryPurgeParams,
    RedisConnection,
    SlowLog,
    SlowLogParams,
    UnlinkPrefix,
    UnlinkPrefixParams,
)
from remediator.actions.redis.bgsave import Snapshot
from remediator.actions.redis.diagnose import findings
from remediator.actions.redis.flush import Database
from remediator.actions.redis.purge import MIB, Memory
from remediator.actions.redis.slowlog import LogLength, bounded, entry, shape
from remediator.actions.redis.unlink import Keys
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, Refused

CACHE = RedisConnection(kind="redis", url="redis://cache:6379/1", prefixes=("seg:",), dedicated=True)
MEMORY = Memory("run-1", "jemalloc-5.3.0", used_bytes=100 * MIB, resident_bytes=300 * MIB, purges=4)
SNAPSHOT = Snapshot("run-1", 1000, 7, saving=False, ok=True, changes=12, keys=30, used_bytes=2 * MIB)
DATABASE = Database("run-1", 1, keys=30, flushes=2)
KEYS = Keys("run-1", 1, keys=1000, bytes=50_000)


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        pytest.param("redis://cache:6379/0", True, id="plain"),
        pytest.param("unix:///run/redis.sock?db=1", True, id="socket"),
        pytest.param("redis://:secret@cache:6379/0", False, id="password"),
        pytest.param("rediss://user:secret@cache:6379/0", False, id="user-and-password"),
    ],
)
def test_no_secret_stands_in_the_url(url: str, fine: bool) -> None:
    """A URL with a user or a password is refused: secrets come from files."""
    if fine:
        assert url == RedisConnection(kind="redis", url=url).url
    else:
        with pytest.raises(ValidationError, match="password_file"):
            RedisConnection(kind="redis", url=url)


@pytest.mark.parametrize("prefix", ["*", "seg:*", "seg?", "seg:[ab]", "seg:\n", "", "a b", "x" * 201])
def test_a_prefix_is_never_a_pattern(prefix: str) -> None:
    """Nothing that Redis reads as a pattern, and nothing empty, is a prefix."""
    with pytest.raises(ValidationError):
        UnlinkPrefixParams(connection="cache", prefix=prefix)


def test_unlink_tells_keys_and_size() -> None:
    """The plan names both and asks for a bound a little above what was seen."""
    effect = UnlinkPrefix(CACHE).plan(UnlinkPrefixParams(connection="cache", prefix="seg:"), KEYS)[0]

    assert "UNLINK 1,000 keys under seg: (about 50.0 kB) in db 1" == effect.summary
    assert {"keys": 1350} == effect.at_most
    assert effect.irreversible


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(replace(KEYS, keys=0), Progress.DONE, id="none-left"),
        pytest.param(replace(KEYS, keys=400), Progress.UNTOUCHED, id="some-left"),
        pytest.param(replace(KEYS, keys=9000), Progress.UNCLEAR, id="many-more"),
        pytest.param(replace(KEYS, server="run-2"), Progress.UNCLEAR, id="restarted"),
    ],
)
def test_progress_of_unlink(seen: Keys, expected: Progress) -> None:
    """Going on with what is left is the same as starting, on the same run and within the bound."""
    action = UnlinkPrefix(CACHE)
    effect = action.plan(UnlinkPrefixParams(connection="cache", prefix="seg:"), KEYS)[0]

    assert expected is action.progress(effect, seen)


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(MEMORY, None, id="above-both"),
        pytest.param(replace(MEMORY, resident_bytes=150 * MIB), NothingSelected, id="at-the-ratio"),
        pytest.param(
            replace(MEMORY, used_bytes=10 * MIB, resident_bytes=110 * MIB), NothingSelected, id="at-the-waste"
        ),
        pytest.param(replace(MEMORY, used_bytes=0), NothingSelected, id="nothing-used"),
        pytest.param(replace(MEMORY, resident_bytes=50 * MIB), NothingSelected, id="swapped-out"),
        pytest.param(replace(MEMORY, allocator="libc"), Refused, id="another-allocator"),
    ],
)
def test_memory_is_purged_above_both_limits_only(seen: Memory, error: type[ActionError] | None) -> None:
    """The ratio and the waste have to be above their limits, and the allocator has to know how."""
    action, params = MemoryPurge(CACHE), MemoryPurgeParams(connection="cache")
    if error is None:
        assert {"server": "run-1", "purges": 4} == action.plan(params, seen)[0].before
    else:
        with pytest.raises(error):
            action.plan(params, seen)


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(SNAPSHOT, None, id="healthy"),
        pytest.param(replace(SNAPSHOT, keys=0), NothingSelected, id="empty"),
        pytest.param(replace(SNAPSHOT, ok=False), Refused, id="last-failed"),
    ],
)
def test_what_is_saved(seen: Snapshot, error: type[ActionError] | None) -> None:
    """Neither an empty server nor one whose last save failed is saved without a person's word."""
    action, params = BackgroundSave(CACHE), BackgroundSaveParams(connection="cache")
    if error is None:
        assert action.plan(params, seen)[0].summary.startswith("BGSAVE 30 keys")
    else:
        with pytest.raises(error):
            action.plan(params, seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(SNAPSHOT, Progress.UNTOUCHED, id="as-before"),
        pytest.param(replace(SNAPSHOT, saved_at=1001), Progress.DONE, id="later-second"),
        pytest.param(replace(SNAPSHOT, saves=8), Progress.DONE, id="same-second"),
        pytest.param(replace(SNAPSHOT, saves=8, ok=False), Progress.UNTOUCHED, id="begun-and-failed"),
        pytest.param(replace(SNAPSHOT, saves=8, saving=True), Progress.UNCLEAR, id="under-way"),
        pytest.param(replace(SNAPSHOT, server="run-2", saved_at=2000), Progress.UNCLEAR, id="restarted"),
    ],
)
def test_progress_of_a_save(seen: Snapshot, expected: Progress) -> None:
    """Only a save that has ended well is done."""
    action = BackgroundSave(CACHE)
    effect = action.plan(BackgroundSaveParams(connection="cache"), SNAPSHOT)[0]

    assert expected is action.progress(effect, seen)


def test_flushing_is_bounded_and_irreversible() -> None:
    """More keys than the playbook allows are refused, none is nothing to do, and the loss is told."""
    action, params = FlushDb(CACHE), FlushDbParams(connection="cache", max_keys=30)
    effect = action.plan(params, DATABASE)[0]

    assert ({"keys": 30}, True) == (effect.at_most, effect.irreversible)
    with pytest.raises(Refused):
        action.plan(params, replace(DATABASE, keys=31))
    with pytest.raises(NothingSelected):
        action.plan(params, replace(DATABASE, keys=0))


def test_the_slow_log_names_how_many_are_kept() -> None:
    """No more than there are, and nothing of an empty log."""
    action, params = SlowLog(CACHE), SlowLogParams(connection="cache", entries=10)

    assert {"entries": 3} == action.plan(params, LogLength("run-1", 3))[0].figures
    assert {"entries": 10} == action.plan(params, LogLength("run-1", 128))[0].figures
    with pytest.raises(NothingSelected):
        action.plan(params, LogLength("run-1", 0))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["get", "seg:1"], "GET seg:1", id="key"),
        pytest.param(["set", "k", "secret", "EX", "60"], "SET k <3 more>", id="values-hidden"),
        pytest.param(["AUTH", "janitor", "secret"], "AUTH <2 more>", id="credentials-hidden"),
        pytest.param(["config", "set", "requirepass", "x"], "CONFIG SET <2 more>", id="subcommand"),
        pytest.param(["EVAL", "return 'secret'", "0"], "EVAL <2 more>", id="script-hidden"),
        pytest.param(["GET", "k" * 100], f"GET {'k' * 64}...", id="long-key"),
        pytest.param(["PING"], "PING", id="alone"),
        pytest.param([], "", id="empty"),
    ],
)
def test_a_slow_command_is_told_without_its_values(words: list[str], expected: str) -> None:
    """Command, and subcommand or key, are enough to find it; the rest may be anybody's data."""
    assert expected == " ".join(shape(words))


def test_an_entry_is_told_in_base_units() -> None:
    """Microseconds and Unix time become seconds and a date; bytes that are no text do no harm."""
    raw = {
        "id": 7,
        "start_time": 0,
        "duration": 2500,
        "command": b"GET \xff",
        "client_address": b"10.0.0.1:5",
    }

    assert {
        "id": 7,
        "at": "1970-01-01T00:00:00+00:00",
        "duration_seconds": 0.0025,
        "command": "GET \ufffd",
        "client": "10.0.0.1:5",
    } == entry(raw)


def test_evidence_is_bounded() -> None:
    """The newest entries that fit are kept, and no half one."""
    entries = [{"command": "x" * 100} for _ in range(50)]

    assert 8 == len(bounded(entries, 1024))
    assert [] == bounded(entries, 10)
    assert entries == bounded(entries, 100_000)


def test_what_stands_out() -> None:
    """A failed save, a full memory and evictions are told; a healthy server gives nothing."""
    settings = {"save": "60 1", "appendonly": "yes", "stop-writes-on-bgsave-error": "yes"}
    healthy: dict[str, Any] = {
        "persistence": {"rdb_last_bgsave_status": "ok", "aof_enabled": 1, "aof_last_write_status": "ok"},
        "settings": settings,
        "memory": {"used_memory": 10, "used_memory_rss": 12, "maxmemory": 100},
        "stats": {"evicted_keys": 0, "rejected_connections": 0},
        "replication": {"role": "master"},
    }
    sick = {
        **healthy,
        "persistence": {"rdb_last_bgsave_status": "err", "aof_enabled": 1, "aof_last_write_status": "err"},
        "memory": {"used_memory": 80, "used_memory_rss": 90, "maxmemory": 100},
        "stats": {"evicted_keys": 5, "rejected_connections": 2},
        "replication": {"role": "slave", "master_link_status": "down"},
    }

    assert [] == list(findings(healthy))
    assert 7 == len(list(findings(sick)))


def test_privileges_name_one_prefix_and_no_group_of_commands() -> None:
    """No `+@all`, no `~*`; SELECT only where the database is not the first."""
    params = UnlinkPrefixParams(connection="cache", prefix="seg:")
    first = CACHE.model_copy(update={"url": "redis://cache:6379/0"})

    assert ("+scan", "+unlink", "+memory|usage", "+info", "~seg:*", "+select") == UnlinkPrefix(
        CACHE
    ).permissions(params).redis
    assert "+select" not in UnlinkPrefix(first).permissions(params).redis


def test_a_password_file_is_not_read_when_the_action_is_made() -> None:
    """Making an action needs neither the secret nor the server."""
    UnlinkPrefix(CACHE.model_copy(update={"password_file": Path("/nonexistent/password")}))
