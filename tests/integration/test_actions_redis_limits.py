"""What Redis actions refuse, hide and bound, on a real redis-server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from remediator.actions.redis import RedisConnection, UnlinkPrefix, UnlinkPrefixParams
from remediator.errors import (
    Drifted,
    NothingSelected,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.redis import RedisServer
from tests.support.redis_cases import DB, MAKERS, Case, acting, planned


async def test_unlinking_stops_at_the_approved_number(redis_server: RedisServer) -> None:
    """Keys that came after the plan are not unlinked beyond its bound."""
    case = MAKERS["redis.unlink_prefix"](redis_server)
    async with acting(case) as action:
        effect = await planned(action, case)
        with redis_server.client(db=DB) as client:
            client.mset({f"seg:late:{number}": "x" for number in range(2000)})
        result = await action.apply(effect)

    assert effect.at_most["keys"] == result.evidence["keys"]
    assert 2300 - effect.at_most["keys"] == sum(key.startswith("seg:") for key in case.look()[f"db{DB}"])


async def test_flushing_is_refused_on_a_database_that_is_shared(redis_server: RedisServer) -> None:
    """Without `dedicated: true` neither a look nor a forged effect leads to FLUSHDB."""
    case = MAKERS["redis.flush_db"](redis_server)
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
    async with acting(case, case.connection(dedicated=False)) as action:
        with pytest.raises(Refused, match="dedicated"):
            await action.observe(case.parameters())
        with pytest.raises(Refused, match="dedicated"):
            await action.apply(effect)

    assert before == case.look()


async def test_flushing_more_keys_than_were_approved_is_refused(redis_server: RedisServer) -> None:
    """A database that has grown above the bound is drift."""
    case = MAKERS["redis.flush_db"](redis_server)
    async with acting(case) as action:
        effect = await planned(action, case)
        with redis_server.client(db=DB) as client:
            client.mset({f"late:{number}": "x" for number in range(2000)})
        with pytest.raises(Drifted, match="more than were approved"):
            await action.apply(effect)


async def test_memory_that_is_not_wasted_is_not_purged(redis_server: RedisServer) -> None:
    """Below either limit there is nothing to select."""
    case = MAKERS["redis.memory_purge"](redis_server)
    async with acting(case) as action:
        for limits in ({"fragmentation_above_ratio": 99}, {"waste_above_bytes": 10**12}):
            params = case.parameters(**limits)
            with pytest.raises(NothingSelected):
                action.plan(params, await action.observe(params))


async def test_a_save_that_fails_is_a_failure(redis_server_factory: Callable[..., RedisServer]) -> None:
    """Where the snapshot cannot be written, apply says so, and the next plan asks for the cause first."""
    server = redis_server_factory(config={"stop-writes-on-bgsave-error": "no"})
    case = MAKERS["redis.bgsave"](server)
    async with acting(case) as action:
        effect = await planned(action, case)
        # A folder stands where the snapshot would be.
        (server.folder / "dump.rdb").mkdir()
        with pytest.raises(PermanentFailure, match="the save failed"):
            await action.apply(effect)
        params = case.parameters()
        with pytest.raises(Refused, match="find out why"):
            action.plan(params, await action.observe(params))


async def test_an_empty_server_is_not_saved_over_its_snapshot(redis_server: RedisServer) -> None:
    """After a loss of all keys the old snapshot is worth more than a new one."""
    case = MAKERS["redis.bgsave"](redis_server)
    async with acting(case) as action:
        effect = await planned(action, case)
        with redis_server.client() as client:
            client.flushall()
        params = case.parameters()
        with pytest.raises(NothingSelected):
            action.plan(params, await action.observe(params))
        with pytest.raises(Refused):
            await action.apply(effect)


async def test_the_slow_log_keeps_no_value(redis_server: RedisServer) -> None:
    """The evidence names command and key, and holds nothing of what was stored; it stays within its bound."""
    case = MAKERS["redis.slowlog"](redis_server)
    async with acting(case) as action:
        told = (await action.apply(await planned(action, case))).evidence["slowlog"]
        with redis_server.client(db=DB) as client:
            client.config_set("slowlog-log-slower-than", 0)
            for number in range(100):
                client.get(f"{number}" * 60)
            client.config_set("slowlog-log-slower-than", -1)
        params = case.parameters(entries=200, max_bytes=2048)
        effect = action.plan(params, await action.observe(params))[0]
        bounded = await action.apply(effect)

    assert any(one["command"] == "SET session:1 <4 more>" for one in told)
    assert "alice" not in json.dumps(told)
    assert len(json.dumps(bounded.evidence["slowlog"]).encode()) <= 2048
    assert "did not fit" in bounded.summary


async def test_a_diagnosis_tells_what_stands_out(redis_server_factory: Callable[..., RedisServer]) -> None:
    """Evictions, a full memory and missing persistence are told in words, and kept with the figures."""
    server = redis_server_factory(config={"maxmemory": "3mb", "maxmemory-policy": "allkeys-lru"})
    with server.client(db=DB) as client:
        for number in range(300):
            client.set(f"seg:{number}", "x" * 10_000)
    case = Case(server, MAKERS["redis.diagnose"](server).action, {}, b"", lambda *_: True, ())
    async with acting(case) as action:
        result = await action.apply(await planned(action, case))

    kept = result.evidence["redis"]
    assert any("were evicted" in one for one in kept["findings"])
    assert any("memory are used" in one for one in kept["findings"])
    assert "nothing is persisted: neither snapshots nor an append-only file" in kept["findings"]
    assert {"appendonly": "no", "maxmemory": str(3 * 1024 * 1024)}.items() <= kept["settings"].items()


async def test_a_server_that_is_down_is_a_finding(redis_server: RedisServer) -> None:
    """A diagnosis of a dead server is planned and made all the same: it says that nothing answers."""
    case = MAKERS["redis.diagnose"](redis_server)
    redis_server.kill()
    async with acting(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)

    assert "does not answer" in effect.summary
    assert "does not answer" in result.summary


async def test_a_hanging_server_is_not_waited_for(redis_server: RedisServer) -> None:
    """A frozen server costs the timeout and is a temporary failure."""
    case = MAKERS["redis.unlink_prefix"](redis_server)
    async with acting(case, case.connection(timeout_seconds=0.5)) as action:
        redis_server.freeze()
        try:
            with pytest.raises(TemporaryFailure):
                await action.observe(case.parameters())
        finally:
            redis_server.thaw()


async def test_the_password_is_read_at_use(
    redis_server_factory: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """A wrong or missing password is a permanent failure that names no secret; a corrected file works at once."""
    server = redis_server_factory(password="right-one")
    with server.client(db=DB) as client:
        client.set("seg:1", "x")
    secret = tmp_path / "password"
    settings = {"kind": "redis", "url": f"redis://{server.address}/{DB}", "prefixes": ["seg:"]}
    action = UnlinkPrefix(RedisConnection.model_validate({**settings, "password_file": secret}))
    params = UnlinkPrefixParams(connection="cache", prefix="seg:")
    try:
        with pytest.raises(PermanentFailure, match="cannot read"):
            await action.observe(params)
        secret.write_text("wrong-one\n")
        with pytest.raises(PermanentFailure) as refused:
            await action.observe(params)
        secret.write_text("right-one\n")
        seen = await action.observe(params)
    finally:
        await action.close()

    assert "wrong-one" not in str(refused.value)
    assert 1 == seen.keys
