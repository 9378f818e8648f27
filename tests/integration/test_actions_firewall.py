"""The contract of firewall.block_address, on the nftables of a network namespace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.firewall import BlockAddress, BlockAddressParams, FirewallConnection
from remediator.domain.plans import Effect, Progress
from remediator.errors import (
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.firewall import GUARDED, NEIGHBOUR, RULES, SENDER, SENDER6, Firewall
from tests.support.processes import program
from tests.support.waiting import until

KIND = "firewall.block_address"


@pytest.fixture
def firewall(tmp_path: Path) -> Iterator[Firewall]:
    """A namespace with the guard's rules."""
    with Firewall(tmp_path) as made:
        yield made


def bound(firewall: Firewall, **more: Any) -> BlockAddress:
    """The action on the guard's sets."""
    given = {
        "table": "guard",
        "set_ipv4": "blocked",
        "set_ipv6": "blocked6",
        "protected": [f"{GUARDED}/32", "198.51.100.0/24", "2001:db8:1::/48"],
        "netns": firewall.netns,
        **more,
    }
    return BlockAddress(FirewallConnection.model_validate({"kind": "firewall", **given}))


async def planned(action: BlockAddress, address: str = SENDER, **more: Any) -> Effect:
    """The effect of blocking an address, as it comes back from the ledger."""
    params = parameters(address, **more)
    (effect,) = action.plan(params, await action.observe(params))
    return Effect(**json.loads(json.dumps(asdict(effect))))


def parameters(address: str = SENDER, **more: Any) -> BlockAddressParams:
    """The parameters, validated."""
    return BlockAddressParams.model_validate({"connection": "edge", "address": address, **more})


@pytest.mark.contract(KIND, "plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(firewall: Firewall) -> None:
    """Planning twice gives the same effect, with the number of addresses and where they are dropped."""
    before, action = firewall.look(), bound(firewall)
    first, second = await planned(action), await planned(action)

    assert first == second
    assert {"addresses": 1, "blocked_sources": 0} == first.figures
    assert f"drop everything from {SENDER} for 3,600 s" in first.summary
    assert "at prerouting" in first.summary
    assert not first.irreversible
    assert Progress.UNTOUCHED is action.progress(first, await action.observe(parameters()))
    assert before == firewall.look()


@pytest.mark.contract(KIND, "apply")
@pytest.mark.parametrize(("address", "name"), [(SENDER, "blocked"), (SENDER6, "blocked6")])
async def test_apply_adds_one_element_with_its_timeout(firewall: Firewall, address: str, name: str) -> None:
    """After apply the source, and nothing else, is in the set of its family."""
    action = bound(firewall)
    effect = await planned(action, address, timeout_seconds=600)
    result = await action.apply(effect)
    (element,) = (await action.observe(parameters(address))).elements

    assert result.changed
    assert [address] == firewall.elements(name)
    assert 590 <= element.seconds <= 600
    assert result.captured["mark"] == element.comment
    assert Progress.DONE is action.progress(effect, await action.observe(parameters(address)))


@pytest.mark.contract(KIND, "apply")
@pytest.mark.contract(KIND, "undo")
async def test_a_blocked_source_reaches_nothing_until_it_is_lifted(firewall: Firewall) -> None:
    """Its packets are dropped, those of its neighbour are not; after the undo it gets through again."""
    firewall.join()
    action = bound(firewall)
    with firewall.serving(8080):
        assert firewall.reaches(SENDER, 8080)
        effect = await planned(action)
        result = await action.apply(effect)
        blocked = [firewall.reaches(source, 8080) for source in (SENDER, NEIGHBOUR)]
        await action.undo(effect, result)
        lifted = firewall.reaches(SENDER, 8080)

    assert [False, True] == blocked
    assert lifted


@pytest.mark.contract(KIND, "reapply")
async def test_a_second_apply_does_nothing(firewall: Firewall) -> None:
    """The block that is there stays as it is, and its time is not begun anew."""
    action = bound(firewall)
    effect = await planned(action)
    await action.apply(effect)
    after = firewall.look()
    again = await action.apply(effect)

    assert not again.changed
    assert after == firewall.look()


@pytest.mark.contract(KIND, "stale")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param("flush chain inet guard last", id="no-rule-drops-it-any-more"),
        pytest.param(
            "flush chain inet guard last; delete set inet guard blocked;"
            " add set inet guard blocked { type ipv4_addr; flags timeout; };"
            " add rule inet guard last ip saddr @blocked drop",
            id="another-set-of-that-name",
        ),
        pytest.param(
            "add chain inet guard out { type filter hook output priority 0; };"
            " add rule inet guard out jump last",
            id="dropped-elsewhere-too",
        ),
    ],
)
async def test_a_stale_plan_is_refused(firewall: Firewall, change: str) -> None:
    """Where the administrator changed the table since, what they made of it is left alone."""
    action = bound(firewall)
    effect = await planned(action)
    firewall.load(change)
    spoilt = firewall.look()
    with pytest.raises((Drifted, Refused)):
        await action.apply(effect)

    assert spoilt == firewall.look()


@pytest.mark.contract(KIND, "undo")
async def test_undo_takes_out_what_is_ours_and_nothing_else(firewall: Firewall) -> None:
    """Our element goes once; one that somebody else put there instead stays."""
    action = bound(firewall)
    before = firewall.look()
    effect = await planned(action)
    result = await action.apply(effect)
    undone, again = await action.undo(effect, result), await action.undo(effect, result)

    assert (True, False) == (undone.changed, again.changed)
    assert before == firewall.look()

    firewall.load(f"add element inet guard blocked {{ {SENDER} timeout 1h }}")
    theirs = firewall.look()
    with pytest.raises(Refused, match="somebody else"):
        await action.undo(effect, result)
    assert theirs == firewall.look()


HOSTILE = (
    GUARDED,
    "198.51.100.77",
    "198.51.100.0/25",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "::/0",
    "127.0.0.1",
    "127.8.8.8",
    "::1",
    "0.0.0.0",
    "10.1.2.3",
    "192.168.1.1",
    "172.20.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "fe80::1",
    "fd00::1",
    "2001:db8:1::5",
    "::ffff:198.51.100.77",
    "64:ff9b::c633:644d",
    "2002:c633:644d::1",
    "203.0.113.7/24",
    "203.0.113.7 ",
    "203.0.113.7\n",
    "203.0.113.7; flush ruleset",
    "203.0.113.7, 198.51.100.1",
    "203.0.113.*",
    "@blocked",
    "example.com",
    "3405803783",
    "203.0.113.07",
    "",
    "../x",
)


@pytest.mark.contract(KIND, "hostile")
@pytest.mark.parametrize("address", HOSTILE)
async def test_hostile_addresses_are_refused(firewall: Firewall, address: str) -> None:
    """Our own ranges, the special ones, wide networks and what is no address are refused; in a forged effect too."""
    action, before = bound(firewall), firewall.look()
    effect = await planned(action)
    with pytest.raises((ValidationError, Refused)):
        await planned(action, address)
    with pytest.raises((ValidationError, Refused)):
        await action.apply(replace(effect, params={**effect.params, "address": address}))

    assert before == firewall.look()


@pytest.mark.contract(KIND, "hostile")
@pytest.mark.parametrize(
    ("more", "why"),
    [
        pytest.param({"set_ipv4": "forever"}, "for ever", id="no-timeout"),
        pytest.param({"set_ipv4": "unused"}, "would block nothing", id="dropped-under-a-condition"),
        pytest.param({"table": "other"}, "would block nothing", id="no-rule"),
        pytest.param({"set_ipv4": "ports"}, "holds inet_service", id="of-ports"),
        pytest.param({"set_ipv4": "blocked6"}, "holds ipv6_addr", id="of-another-family"),
        pytest.param({"set_ipv4": None}, "no set for IPv4", id="no-set"),
    ],
)
async def test_a_set_that_could_not_block_is_refused(
    firewall: Firewall, more: dict[str, Any], why: str
) -> None:
    """A block that would not end, or would only look like one, is not planned."""
    before = firewall.look()
    with pytest.raises(Refused, match=why):
        await planned(bound(firewall, **more))

    assert before == firewall.look()


@pytest.mark.contract(KIND, "hostile")
@pytest.mark.parametrize("seconds", [0, 59, -1, 604_801, 90_000])
async def test_a_block_is_neither_short_nor_endless(firewall: Firewall, seconds: int) -> None:
    """The time has bounds of ours, and one of the connection."""
    with pytest.raises((ValidationError, Refused)):
        await planned(bound(firewall), timeout_seconds=seconds)


async def test_what_the_connection_allows_is_allowed(firewall: Firewall) -> None:
    """A network, and a private address, are blocked where the connection says so."""
    action = bound(firewall, widest_ipv4=28, allow_private=True)
    effect = await planned(action, "203.0.113.16/28")
    await action.apply(effect)
    await action.apply(await planned(action, "10.9.9.9"))

    assert 16 == effect.figures["addresses"]
    assert [{"prefix": {"addr": "203.0.113.16", "len": 28}}, "10.9.9.9"] == sorted(
        firewall.elements(), key=str, reverse=True
    )
    with pytest.raises(NothingSelected, match="blocked already"):
        await planned(action, "203.0.113.20")
    with pytest.raises(Refused, match="wider"):
        await planned(action, "203.0.113.0/27")


async def test_a_part_that_is_blocked_already_is_refused(firewall: Firewall) -> None:
    """A network of which an element is in the set is left to a person."""
    action = bound(firewall, widest_ipv4=28)
    firewall.load("add element inet guard blocked { 203.0.113.17 timeout 1h }")
    with pytest.raises(Refused, match="a part of"):
        await planned(action, "203.0.113.16/28")


async def test_no_more_sources_are_blocked_than_allowed(firewall: Firewall) -> None:
    """A flood of sources is no case for one address after the other."""
    action = bound(firewall, max_blocked=2)
    effect = await planned(action)
    firewall.load("add element inet guard blocked { 203.0.113.50 timeout 1h, 203.0.113.60 timeout 1h }")
    with pytest.raises(Refused, match="2 sources"):
        await planned(action)
    with pytest.raises(Drifted, match="2 sources"):
        await action.apply(effect)


def wrapper(folder: Path, *lines: str) -> Path:
    """An nft that does something else beside."""
    path = folder / "nft"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.mark.contract(KIND, "dies")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_nft_that_dies_leaves_a_defined_outcome(
    firewall: Firewall, when: str, tmp_path: Path
) -> None:
    """The outcome is unknown; a second look tells whether the kernel had the change, and going on does it once."""
    nft = program("nft", package="nftables")
    change = f'case "$2" in *create*) {f"{nft} "}"$@"; kill -9 $$;; esac'
    only = 'case "$2" in *create*) kill -9 $$;; esac'
    dying = wrapper(tmp_path, change if when == "after" else only, f'exec {nft} "$@"')
    action = bound(firewall, nft=str(dying))
    effect = await planned(action)
    with pytest.raises(OutcomeUnknown):
        await action.apply(effect)
    action = bound(firewall)
    progress = action.progress(effect, await action.observe(parameters()))
    again = await action.apply(effect)

    assert progress is (Progress.DONE if when == "after" else Progress.UNTOUCHED)
    assert (when == "before") == again.changed
    assert [SENDER] == firewall.elements()


@pytest.mark.contract(KIND, "dies")
async def test_a_namespace_that_is_gone_is_told_as_such(firewall: Firewall) -> None:
    """Where there is no such namespace nothing was changed; in one that was made anew the set is the planned one or none."""
    action = bound(firewall)
    effect = await planned(action)
    firewall.remove()
    with pytest.raises(TemporaryFailure, match="network namespace"):
        await action.apply(effect)
    with pytest.raises(TemporaryFailure, match="network namespace"):
        await action.observe(parameters())
    firewall.make()

    assert Progress.UNTOUCHED is action.progress(effect, await action.observe(parameters()))


@pytest.mark.contract(KIND, "dies")
async def test_a_hanging_nft_is_ended(firewall: Firewall, tmp_path: Path) -> None:
    """When its time is over nft is ended: while only looking nothing was changed, else nobody knows."""
    nft = program("nft", package="nftables")
    hanging = wrapper(tmp_path, 'case "$2" in *create*) exec sleep 60;; esac', f'exec {nft} "$@"')
    action = bound(firewall, nft=str(hanging), timeout_seconds=1)
    with pytest.raises(OutcomeUnknown, match="longer than 1 s"):
        await action.apply(await planned(action))
    deaf = bound(firewall, nft=str(wrapper(tmp_path, "exec sleep 60")), timeout_seconds=0.2)
    with pytest.raises(TemporaryFailure, match="does not answer"):
        await deaf.observe(parameters())

    assert [] == firewall.elements()


async def test_a_cancelled_apply_leaves_all_or_nothing(firewall: Firewall, tmp_path: Path) -> None:
    """Its nft is ended with us; what it had not sent is not done, and going on does it."""
    nft, flag = program("nft", package="nftables"), tmp_path / "asked"
    waiting = wrapper(
        tmp_path, f'case "$2" in *create*) touch {flag}; exec sleep 60;; esac', f'exec {nft} "$@"'
    )
    action = bound(firewall, nft=str(waiting))
    effect = await planned(action)
    task = asyncio.create_task(action.apply(effect))
    while not flag.exists():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [] == firewall.elements()
    assert (await bound(firewall).apply(effect)).changed


async def test_two_at_once_block_once(firewall: Firewall) -> None:
    """Of two that apply the same at the same time one blocks, and the other finds it done."""
    actions = [bound(firewall) for _ in range(6)]
    effect = await planned(actions[0])
    told = await asyncio.gather(*(one.apply(effect) for one in actions), return_exceptions=True)

    assert 1 == sum(getattr(one, "changed", False) for one in told)
    assert all(isinstance(one, Drifted) or hasattr(one, "changed") for one in told), told
    assert [SENDER] == firewall.elements()


@pytest.mark.contract(KIND, "privilege")
@pytest.mark.parametrize("capable", [True, False])
async def test_the_one_capability_is_enough_and_less_is_not(
    firewall: Firewall, capable: bool, tmp_path: Path
) -> None:
    """A plain user with CAP_NET_ADMIN may do it; one without may not even look, and is told so."""
    nft, setpriv = program("nft", package="nftables"), program("setpriv", package="util-linux")
    keep = ",+net_admin" if capable else ""
    caps = f"--inh-caps=-all{keep} --ambient-caps=-all{keep} --bounding-set=-all{keep}"
    plain = wrapper(tmp_path, f'exec {setpriv} --reuid=65534 --regid=65534 --clear-groups {caps} {nft} "$@"')
    action = bound(firewall, nft=str(plain))
    assert "CAP_NET_ADMIN" in action.permissions(parameters()).other[0]
    if not capable:
        with pytest.raises(PermanentFailure, match="not allowed"):
            await planned(action)
        return
    effect = await planned(action)
    result = await action.apply(effect)

    assert [SENDER] == firewall.elements()
    assert (await action.undo(effect, result)).changed


async def test_a_block_ends_by_itself(firewall: Firewall) -> None:
    """An element whose time is over is gone; undoing it then changes nothing."""
    action = bound(firewall)
    effect = await planned(action)
    result = await action.apply(effect)
    firewall.load(
        f"delete element inet guard blocked {{ {SENDER} }};"
        f" add element inet guard blocked {{ {SENDER} timeout 1s }}"
    )
    until(lambda: firewall.elements() == [], what="the end of its time")

    assert not (await action.undo(effect, result)).changed


@pytest.mark.parametrize(
    ("more", "why"), [({"table": "nowhere"}, "no table"), ({"set_ipv4": "nowhere"}, "no set")]
)
async def test_a_table_or_set_that_is_not_there_is_told(
    firewall: Firewall, more: dict[str, Any], why: str
) -> None:
    """A connection that names what is not there is a fault of configuration."""
    assert "nowhere" not in RULES
    with pytest.raises(PermanentFailure, match=why):
        await planned(bound(firewall, **more))
