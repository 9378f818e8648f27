"""Maintenance windows: how they are written, when they open, and what waits for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.adapters.ledger.bodies import decode, encode, snapshot_of
from remediator.adapters.rulefiles import load_rules
from remediator.domain.remediations import Phase
from remediator.domain.rules import Mode
from remediator.domain.windows import MaintenanceWindow, parse_window
from remediator.testing import NOON, make_alert
from tests.unit.badfiles import ACTIONS, CONNECTIONS, PLAYBOOKS
from tests.unit.story import LOOSE, MINUTE, RUNG, Story, rule

HOUR = 60 * MINUTE
DAY = 24 * HOUR
# 2026-01-15, the day of NOON, is a Thursday.
AFTERNOON = MaintenanceWindow("afternoon", (3,), 14 * 60, 120)


def at(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        pytest.param("Sun 02:00-06:00", ((6,), 120, 240), id="one-day"),
        pytest.param("Mon 08:00-08:30", ((0,), 480, 30), id="half-an-hour"),
        pytest.param("03:00-24:00", (tuple(range(7)), 180, 1260), id="every-day-to-midnight"),
        pytest.param("Mon-Fri 22:00-02:00", ((0, 1, 2, 3, 4), 1320, 240), id="over-midnight"),
        pytest.param("Fri-Mon 00:00-00:00", ((0, 4, 5, 6), 0, 1440), id="over-the-weekend-all-day"),
        pytest.param("Tue,Thu 12:00-13:00", ((1, 3), 720, 60), id="two-days"),
        pytest.param("every Monday", None, id="words"),
        pytest.param("Sunday 02:00-06:00", None, id="a-day-in-full"),
        pytest.param("Sun 2:00-6:00", None, id="hours-of-one-digit"),
        pytest.param("Sun 02:00-25:00", None, id="no-such-hour"),
        pytest.param("Sun 02:00-06:00 UTC", None, id="a-zone-behind-it"),
    ],
)
def test_how_a_window_is_written(when: str, expected: tuple[tuple[int, ...], int, int] | None) -> None:
    """Days and hours are read to the minute; anything else is words, and no gate."""
    window = parse_window("w", when)

    assert expected == (window and (window.days, window.start_minute, window.minutes))


@pytest.mark.parametrize(
    ("when", "timezone", "now", "opens"),
    [
        pytest.param("Sun 02:00-06:00", "UTC", "2026-01-15T12:00", "2026-01-18T02:00", id="in-three-days"),
        pytest.param(
            "Sun 02:00-06:00", "UTC", "2026-01-18T01:59:59", "2026-01-18T02:00", id="a-second-early"
        ),
        pytest.param("Sun 02:00-06:00", "UTC", "2026-01-18T02:00", "2026-01-18T02:00", id="to-the-second"),
        pytest.param(
            "Sun 02:00-06:00", "UTC", "2026-01-18T05:59:59", "2026-01-18T05:59:59", id="last-second"
        ),
        pytest.param("Sun 02:00-06:00", "UTC", "2026-01-18T06:00", "2026-01-25T02:00", id="just-closed"),
        pytest.param("Fri 22:00-02:00", "UTC", "2026-01-17T01:30", "2026-01-17T01:30", id="after-midnight"),
        pytest.param("Fri 22:00-02:00", "UTC", "2026-01-16T01:30", "2026-01-16T22:00", id="not-of-thursday"),
        pytest.param("02:00-04:00", "Europe/Berlin", "2026-01-15T00:30", "2026-01-15T01:00", id="winter"),
        pytest.param("02:00-04:00", "Europe/Berlin", "2026-07-15T00:30", "2026-07-15T00:30", id="summer"),
        pytest.param(
            "Mon 08:00-09:00", "Asia/Tokyo", "2026-01-18T22:59", "2026-01-18T23:00", id="another-day-there"
        ),
        # 02:30 does not come that night: it opens an hour later by the clock, as cron does it.
        pytest.param(
            "Sun 02:30-05:00", "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:30", id="a-skipped-hour"
        ),
    ],
)
def test_when_it_opens(when: str, timezone: str, now: str, opens: str) -> None:
    """It is open from its first second to before its last, by the clock of its zone, and names the next opening."""
    window = parse_window("w", when, timezone)

    assert window is not None
    assert at(opens) == window.opens_at(at(now))


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        pytest.param("Sun 02:00-06:00", 7 * DAY - 4 * HOUR, id="weekly"),
        pytest.param("02:00-04:00", 22 * HOUR, id="nightly"),
        pytest.param("Tue,Thu 12:00-13:00", 5 * DAY - HOUR, id="from-thursday-to-tuesday"),
        pytest.param("00:00-24:00", timedelta(0), id="always-open"),
    ],
)
def test_the_longest_wait(when: str, expected: timedelta) -> None:
    """How long a remediation may have to wait, which `limits.hold` has to bear."""
    window = parse_window("w", when)

    assert window is not None
    assert expected == window.longest_wait


def test_a_rule_names_its_window(tmp_path: Path) -> None:
    """The window of the file arrives in the rule's limits, with its zone; the others have none."""
    (tmp_path / "one.yml").write_text(
        """
system: one
contacts: {ops: {name: Operations, email: ops@example.com}}
windows: {nightly: {when: "02:00-04:00", timezone: Europe/Berlin}}
connections: {cache: {kind: redis, url: "redis://localhost"}}
defaults: {approval: {approvers: [ops]}, escalate_to: [ops], limits: {hold: 1d}}
rules:
  - name: first
    match: [alertname=First]
    window: nightly
    ladder: [{playbook: clear, with: {connection: cache, prefix: "seg:"}}]
    verify: {expr: up == 1}
  - name: second
    match: [alertname=Second]
    ladder: [{playbook: clear, with: {connection: cache, prefix: "seg:"}}]
    verify: {expr: up == 1}
"""
    )

    first, second = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS, ACTIONS).table.rules

    assert MaintenanceWindow("nightly", tuple(range(7)), 120, 120, "Europe/Berlin") == first.limits.window
    assert None is second.limits.window


async def test_a_change_waits_for_its_window() -> None:
    """Outside the window it is held and says until when; as it opens, the plan is made and people are asked."""
    limits = replace(LOOSE, window=AFTERNOON, hold=7 * DAY)
    async with Story(rules=(rule(limits=limits),)) as story:
        await story.post(make_alert())
        held = await story.only()
        await story.wait(2 * HOUR - MINUTE)
        still = await story.only()
        await story.wait(MINUTE)

        assert (Phase.MATCHED, NOON + 2 * HOUR) == (held.phase, held.pending and held.pending.until)
        assert "the window afternoon opens at 2026-01-15 14:00 UTC" == held.reason
        assert Phase.MATCHED is still.phase
        assert Phase.AWAITING_APPROVAL is (await story.only()).phase


async def test_an_approval_after_the_window_closed_does_not_act() -> None:
    """The guard is asked again right before the step: who approves too late is asked again when it opens next."""
    limits = replace(LOOSE, window=AFTERNOON, hold=14 * DAY, fresh=14 * DAY)
    late = replace(RUNG, approval=replace(RUNG.approval, expires=DAY))
    async with Story(rules=(rule("rule", 'alertname="CacheHitRateLow"', late, limits=limits),)) as story:
        await story.post(make_alert())
        await story.wait(4 * HOUR)
        await story.vote()
        held = await story.only()

        assert 0 == story.action.applied
        assert (Phase.MATCHED, NOON + 7 * DAY + 2 * HOUR) == (held.phase, held.pending and held.pending.until)


async def test_a_critical_alert_and_a_dry_run_wait_for_no_window() -> None:
    """A window gates changes: it never holds back what is critical, and a suggestion changes nothing."""
    limits = replace(LOOSE, window=AFTERNOON)
    async with Story(rules=(rule(limits=limits),)) as story:
        await story.post(make_alert(severity="critical"))
        assert Phase.AWAITING_APPROVAL is (await story.only()).phase
    async with Story(rules=(rule(limits=limits),), mode=Mode.SUGGEST) as story:
        await story.post(make_alert())
        assert Phase.SUGGESTED is (await story.only()).phase


async def test_a_window_further_away_than_the_hold_goes_to_people() -> None:
    """What cannot wait that long is given up at once, and not in silence."""
    async with Story(
        rules=(rule(limits=replace(LOOSE, window=AFTERNOON, hold=HOUR), escalate_to=("ops",)),)
    ) as story:
        await story.post(make_alert())

        assert Phase.DENIED is (await story.only()).phase
        assert "escalating" in await story.kinds()


async def test_the_ledger_keeps_the_window() -> None:
    """A remediation that waits over a restart waits for the same window."""
    async with Story(rules=(rule(limits=replace(LOOSE, window=AFTERNOON, hold=DAY)),)) as story:
        await story.post(make_alert())
        held = await story.only()

        assert held == decode(encode(held), snapshot_of(held).body)
        assert AFTERNOON == held.limits.window
