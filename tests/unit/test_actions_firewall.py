"""firewall.block_address: what its pure parts make of what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.firewall import BlockAddress, BlockAddressParams, Element, FirewallConnection, Seen
from remediator.actions.firewall.table import seen_of
from remediator.domain.plans import Progress
from remediator.errors import NothingSelected, Refused

EDGE = FirewallConnection.model_validate(
    {"kind": "firewall", "table": "guard", "set_ipv4": "blocked", "protected": ["198.51.100.0/24"]}
)
PARAMS = BlockAddressParams(connection="edge", address="203.0.113.7", timeout_seconds=600)
SEEN = Seen("blocked", 3, "ipv4_addr", ("interval", "timeout"), (), ("prerouting",))
HELD = replace(SEEN, elements=(Element("203.0.113.0", "203.0.113.15", 30),))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("203.0.113.7/32", "203.0.113.7", id="alone"),
        pytest.param("203.0.113.0/28", "203.0.113.0/28", id="network"),
        pytest.param("2001:DB8:0:0::7", "2001:db8::7", id="shortened"),
    ],
)
def test_an_address_has_one_form(given: str, expected: str) -> None:
    """However it is written, the same source is the same subject."""
    assert expected == BlockAddressParams(connection="edge", address=given).address


def test_a_connection_protects_something() -> None:
    """A connection that names none of our own ranges is refused: an empty list would protect nobody."""
    with pytest.raises(ValidationError, match="protected"):
        FirewallConnection.model_validate({**EDGE.model_dump(), "protected": []})


def test_the_plan_tells_source_time_and_place() -> None:
    """One line says who is blocked, for how long and where."""
    (effect,) = BlockAddress(EDGE).plan(PARAMS, SEEN)

    assert (
        "drop everything from 203.0.113.7 for 600 s (blocked of table inet guard, at prerouting)"
        == effect.summary
    )
    assert {"blocked_sources": 255} == effect.at_most


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(HELD, NothingSelected, id="blocked"),
        pytest.param(replace(SEEN, flags=("interval",)), Refused, id="no-timeouts"),
        pytest.param(replace(SEEN, flags=("constant", "timeout")), Refused, id="constant"),
        pytest.param(replace(SEEN, hooks=()), Refused, id="no-rule"),
        pytest.param(replace(SEEN, merges=True), Refused, id="merging"),
        pytest.param(replace(SEEN, type="ipv4_addr . inet_service"), Refused, id="another-type"),
    ],
)
def test_what_cannot_be_blocked_is_told(seen: Seen, error: type[Exception]) -> None:
    """Nothing is planned that is there, would not end, or would not block."""
    with pytest.raises(error):
        BlockAddress(EDGE).plan(PARAMS, seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(SEEN, Progress.UNTOUCHED, id="as-before"),
        pytest.param(HELD, Progress.DONE, id="blocked"),
        pytest.param(replace(HELD, handle=9), Progress.UNCLEAR, id="another-set"),
        pytest.param(replace(HELD, hooks=()), Progress.UNCLEAR, id="no-rule"),
    ],
)
def test_progress(seen: Seen, expected: Progress) -> None:
    """A source that is in the planned set is blocked, whoever put it there."""
    action = BlockAddress(EDGE)
    (effect,) = action.plan(PARAMS, SEEN)

    assert expected is action.progress(effect, seen)


def _rule(chain: str, *expr: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"chain": chain, "expr": list(expr)}}


def _source(right: str = "@blocked") -> dict[str, Any]:
    left = {"payload": {"protocol": "ip", "field": "saddr"}}
    return {"match": {"op": "==", "left": left, "right": right}}


PORT = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}}
DROP: dict[str, Any] = {"drop": None}
BASE: dict[str, Any] = {"chain": {"name": "in", "hook": "input"}}
SIDE: dict[str, Any] = {"chain": {"name": "side"}}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([_rule("in", _source(), {"counter": {}}, DROP)], ("input",), id="dropped"),
        pytest.param([_rule("in", _source(), {"reject": {}})], ("input",), id="rejected"),
        pytest.param([_rule("in", _source(), {"accept": None})], (), id="accepted"),
        pytest.param([_rule("in", _source("@other"), DROP)], (), id="another-set"),
        pytest.param([_rule("in", PORT, _source(), DROP)], (), id="one-port-only"),
        pytest.param([_rule("side", _source(), DROP)], (), id="chain-without-hook"),
        pytest.param(
            [_rule("side", _source(), DROP), _rule("in", {"jump": {"target": "side"}})],
            ("input",),
            id="by-a-jump",
        ),
        pytest.param(
            [_rule("side", _source(), DROP), _rule("in", PORT, {"jump": {"target": "side"}})],
            (),
            id="by-a-jump-of-one-port",
        ),
    ],
)
def test_where_the_set_is_dropped(rules: list[dict[str, Any]], expected: tuple[str, ...]) -> None:
    """Only a rule that drops every packet of the source, and that every packet reaches, counts."""
    found = {"set": {"name": "blocked", "handle": 3, "type": "ipv4_addr", "flags": "timeout"}}
    seen = seen_of([found, BASE, SIDE, *rules], "blocked", 4)

    assert seen is not None
    assert expected == seen.hooks
    assert ("timeout",) == seen.flags


def test_elements_are_read_in_every_form() -> None:
    """A bare address, one with a time, a prefix and a range are all ranges."""
    elements = [
        "192.0.2.1",
        {"elem": {"val": "192.0.2.2", "timeout": 60, "expires": 59, "comment": "x"}},
        {"prefix": {"addr": "192.0.2.16", "len": 28}},
        {"range": ["192.0.2.40", "192.0.2.50"]},
    ]
    found = {"set": {"name": "blocked", "handle": 3, "type": "ipv4_addr", "elem": elements}}
    seen = seen_of([found], "blocked", 4)

    assert seen is not None
    assert (
        Element("192.0.2.1", "192.0.2.1"),
        Element("192.0.2.2", "192.0.2.2", 59, "x"),
        Element("192.0.2.16", "192.0.2.31"),
        Element("192.0.2.40", "192.0.2.50"),
    ) == seen.elements
    assert None is seen_of([found], "other", 4)
