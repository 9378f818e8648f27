"""Rules that the clock starts: when they are due, that they start once, and that the guards still judge them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.adapters.ledger import SqlLedger
from remediator.adapters.rulefiles import load_rules
from remediator.domain.guards import Allow, Deny, Facts, Limits, World, firing, judge, silence
from remediator.domain.remediations import Phase
from remediator.domain.rules import Mode
from remediator.errors import LedgerUnavailable
from remediator.pipeline.episodes import OwnEpisodes
from remediator.pipeline.ports import Accepted, Delivery, Sighting, Switch
from remediator.pipeline.schedule import Schedule, Scheduler, alertname, check_cron, check_timezone
from remediator.testing import NOON, VirtualClock
from tests.unit.story import LOOSE, MINUTE, Story, rule

HOUR = timedelta(hours=1)
DAILY = Schedule(rule("nightly-clean", 'alertname="ScheduledNightlyClean"', limits=LOOSE), "30 12 * * *")
DUE = NOON + 30 * MINUTE


def utc(*when: int) -> datetime:
    """A time in UTC."""
    return datetime(*when, tzinfo=UTC)  # type: ignore[arg-type, misc]


def scheduler(story: Story, *schedules: Schedule) -> Scheduler:
    """A scheduler on the story's ledger; a second one is a restart, or another replica."""
    listed: Sequence[Schedule] = schedules or (DAILY,)
    episodes = OwnEpisodes(story.ledger, story.parts.dispatch)
    return Scheduler(story.ledger, episodes, story.clock, story.mode, lambda: listed)


async def at(story: Story, time: datetime, *schedulers: Scheduler) -> None:
    """It becomes this time; everything that is due is begun and carried on."""
    story.clock.to(time)
    for each in schedulers:
        await each.round()
    await story.settle()


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    """A service that may act, whose Prometheus says that nothing fires."""
    async with Story(rules=(DAILY.rule,)) as story:
        story.world.is_firing = False
        yield story


@pytest.mark.parametrize(
    ("cron", "timezone", "now", "expected"),
    [
        pytest.param("0 2 * * 0", "UTC", utc(2026, 1, 18, 2), utc(2026, 1, 18, 2), id="in-the-minute"),
        pytest.param(
            "0 2 * * 0", "UTC", utc(2026, 1, 18, 2, 0, 59), utc(2026, 1, 18, 2), id="in-its-last-second"
        ),
        pytest.param(
            "0 2 * * 0", "UTC", utc(2026, 1, 18, 1, 59, 59), utc(2026, 1, 11, 2), id="a-second-before"
        ),
        pytest.param("0 8 1-7 * MON", "UTC", utc(2026, 2, 1), utc(2026, 1, 26, 8), id="day-or-weekday"),
        pytest.param("0 0 29 2 *", "UTC", utc(2026, 1, 1), utc(2024, 2, 29), id="a-day-of-leap-years"),
        pytest.param("30 2 * * *", "Europe/Berlin", utc(2026, 1, 5, 3), utc(2026, 1, 5, 1, 30), id="a-zone"),
        pytest.param(
            "30 2 * * *", "Europe/Berlin", utc(2026, 3, 29, 3), utc(2026, 3, 29, 1), id="no-such-hour"
        ),
        pytest.param(
            "30 2 * * *", "Europe/Berlin", utc(2026, 10, 25, 3), utc(2026, 10, 25, 0, 30), id="hour-twice"
        ),
    ],
)
def test_when_it_was_last_due(cron: str, timezone: str, now: datetime, expected: datetime) -> None:
    """The minute counts from its first second; an hour that the clocks skip or repeat is due once."""
    assert expected == Schedule(DAILY.rule, cron, timezone).latest(now)


@pytest.mark.parametrize(
    "cron", ["0 2 * *", "61 * * * *", "0 0 30 2 *", "@daily", "0 0 2 * * *", "", "a b c d e"]
)
def test_a_wrong_cron_is_refused(cron: str) -> None:
    """Five fields that come true some day, and nothing else."""
    with pytest.raises(ValueError, match="found"):
        check_cron(cron)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", ""])
def test_a_wrong_zone_is_refused(zone: str) -> None:
    """A zone that there is, and no path."""
    with pytest.raises(ValueError, match="there is no time zone"):
        check_timezone(zone)


async def test_a_due_rule_starts_at_its_minute(story: Story) -> None:
    """Not before, and once; the episode is the scheduled minute and not the time at which we looked."""
    clock = scheduler(story)
    await at(story, NOON + 29 * MINUTE, clock)
    assert () == await story.ledger.list()

    await at(story, DUE + timedelta(seconds=7), clock)
    await at(story, DUE + timedelta(seconds=40), clock)

    remediation = await story.only()
    assert DUE == remediation.starts_at
    assert remediation.scheduled
    assert {"alertname": "ScheduledNightlyClean", "system": "brainstem", "rule": "nightly-clean"} == dict(
        remediation.labels
    )
    assert Phase.AWAITING_APPROVAL is remediation.phase


async def test_it_goes_the_whole_way(story: Story) -> None:
    """Approved, applied once and verified like any other, though Prometheus knows of no such alert."""
    clock = scheduler(story)
    await at(story, NOON, clock)
    await at(story, DUE, clock)

    assert "" == await story.vote()
    await story.wait(10 * MINUTE)

    assert Phase.REMEDIATED is (await story.only()).phase
    assert 1 == story.action.applied


async def test_dry_run_touches_nothing() -> None:
    """With the service's default mode a schedule suggests, and that is all."""
    async with Story(rules=(DAILY.rule,), mode=Mode.SUGGEST) as story:
        clock = scheduler(story)
        await at(story, NOON, clock)
        await at(story, DUE, clock)

        assert Phase.SUGGESTED is (await story.only()).phase
        assert 0 == story.action.applied


async def test_restarts_and_replicas_start_it_once(story: Story) -> None:
    """Two schedulers that look at once, and a third after a restart, begin one remediation."""
    first, second = scheduler(story), scheduler(story)
    await at(story, NOON, first, second)
    await at(story, DUE, first, second)
    await at(story, DUE + 5 * MINUTE, first, second, scheduler(story))

    assert 1 == (await story.kinds()).count("matched")


async def test_the_next_day_is_another_episode(story: Story) -> None:
    """The same rule is due again a day later, and starts again."""
    clock = scheduler(story)
    await at(story, NOON, clock)
    await at(story, DUE, clock)
    await at(story, DUE + 24 * HOUR, clock)

    assert {DUE, DUE + 24 * HOUR} == {remediation.starts_at for remediation in await story.ledger.list()}


@pytest.mark.parametrize(
    ("late", "started"),
    [
        pytest.param(HOUR, 1, id="caught-up-to-the-second"),
        pytest.param(HOUR + timedelta(seconds=1), 0, id="a-second-too-late"),
    ],
)
async def test_missed_while_we_were_down(story: Story, late: timedelta, started: int) -> None:
    """After a downtime the run begins late, but no later than `catch_up`; what is skipped is said once."""
    await at(story, NOON, scheduler(story))
    for _ in range(2):
        await at(story, DUE + late, scheduler(story))

    kinds = await story.kinds()
    assert started == kinds.count("matched")
    assert 1 - started == kinds.count("schedule_missed")


async def test_only_the_latest_missed_run_is_caught_up(story: Story) -> None:
    """Three days down are one run, that of the day on which we are back."""
    await at(story, NOON, scheduler(story))
    await at(story, DUE + 72 * HOUR, scheduler(story))

    assert DUE + 72 * HOUR == (await story.only()).starts_at


async def test_what_was_due_before_we_knew_it_is_not_missed(story: Story) -> None:
    """A schedule that is new begins with its next minute, even where the last is within `catch_up`."""
    await at(story, DUE + MINUTE, scheduler(story))
    await at(story, DUE + 2 * MINUTE, scheduler(story))

    assert ["schedule_known"] == await story.kinds()


async def test_another_time_is_another_schedule(story: Story) -> None:
    """A cron that was changed does not make up for a minute that it never promised."""
    await at(story, NOON, scheduler(story))
    await at(story, DUE + 2 * MINUTE, scheduler(story, replace(DAILY, cron="31 12 * * *")))

    assert ["schedule_known", "schedule_known"] == await story.kinds()


async def test_a_pause_holds_it(story: Story) -> None:
    """A scheduled run waits for the end of a pause like any other."""
    clock = scheduler(story)
    await at(story, NOON, clock)
    await story.ledger.switch(Switch("pause", "", "a freeze", "ada", NOON))
    await at(story, DUE, clock)

    remediation = await story.only()
    assert Phase.MATCHED is remediation.phase
    assert "paused: a freeze" in remediation.reason


async def test_a_silence_holds_it(story: Story) -> None:
    """A silence on its labels is the handbrake of a scheduled run too."""
    story.world.silenced_by = ("s-1",)
    clock = scheduler(story)
    await at(story, NOON, clock)
    await at(story, DUE, clock)

    assert "silenced by s-1" in (await story.only()).reason


async def test_its_cooldown_counts() -> None:
    """Scheduled more often than the rule's cooldown allows, the second run is held."""
    resting = Schedule(
        rule("often", 'alertname="ScheduledOften"', limits=replace(LOOSE, cooldown=HOUR)), "*/10 * * * *"
    )
    async with Story(rules=(resting.rule,)) as story:
        clock = scheduler(story, resting)
        await at(story, NOON + MINUTE, clock)
        await at(story, NOON + 10 * MINUTE, clock)
        await story.vote()
        await story.wait(8 * MINUTE)
        await at(story, NOON + 20 * MINUTE, clock)

        newest, first = await story.ledger.list()
        assert Phase.REMEDIATED is first.phase
        assert "is still resting" in newest.reason


async def test_its_episode_ends_with_it(story: Story) -> None:
    """While it runs its episode is open; afterwards nothing counts as firing for ever, also after a restart."""
    await at(story, NOON, scheduler(story))
    await at(story, DUE, scheduler(story))
    assert ["ScheduledNightlyClean"] == [labels["alertname"] for labels, _ in await story.ledger.firing()]

    await story.vote(approve=False)
    await at(story, DUE + MINUTE, scheduler(story))

    assert () == await story.ledger.firing()
    assert Phase.REJECTED is (await story.only()).phase


class FullDisk(SqlLedger):
    """A ledger whose next deliveries cannot be written."""

    failures = 1

    async def accept(self, delivery: Delivery, sightings: Sequence[Sighting] = ()) -> Accepted:
        """Fail as often as told."""
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("no space left on device")
        return await super().accept(delivery, sightings)


async def test_a_ledger_that_fails_is_tried_again() -> None:
    """What is due and could not be written is begun as soon as it can be."""
    async with Story(rules=(DAILY.rule,)) as story:
        await story.ledger.close()
        story.ledger = FullDisk.open("sqlite://", story.clock)
        story.parts = story.assemble()
        clock = scheduler(story)
        await at(story, NOON, clock)
        with pytest.raises(LedgerUnavailable):
            await at(story, DUE, clock)
        await at(story, DUE + MINUTE, clock)

        assert DUE == (await story.only()).starts_at


class Ended(Exception):
    """The test's end of a loop that has none."""


class CountedClock(VirtualClock):
    """Ends the loop after some sleeps."""

    def __init__(self, sleeps: int, now: datetime) -> None:
        super().__init__(now)
        self.left, self.woken_at = sleeps, list[datetime]()

    async def sleep(self, seconds: float) -> None:
        """Move on, or end."""
        if not self.left:
            raise Ended
        self.left -= 1
        await super().sleep(seconds)
        self.woken_at.append(self.now())


async def test_the_loop_looks_at_every_minute() -> None:
    """It sleeps to the next full minute, so a run begins in its first second."""
    clock = CountedClock(3, NOON + timedelta(seconds=12.5))
    async with Story(rules=(DAILY.rule,), clock=clock) as story:
        with pytest.raises(Ended):
            await scheduler(story).run()

    assert [NOON + MINUTE, NOON + 2 * MINUTE, NOON + 3 * MINUTE] == clock.woken_at


CALM = Facts(now=NOON, subject="number", received_at=NOON, world=World(None, (), ()), alertless=True)


def test_the_guards_of_a_scheduled_run() -> None:
    """Only the question whether Prometheus says that it fires is not asked of a scheduled run."""
    assert Allow("firing") == firing(CALM, Limits())
    assert isinstance(firing(replace(CALM, alertless=False), Limits()), Deny)
    assert all(isinstance(verdict, Allow) for verdict in judge(CALM, Limits()))
    assert isinstance(silence(replace(CALM, world=World(None, None, None)), Limits()), Deny)


RULES = """\
system: example
contacts: {ops: {name: Operations, email: ops@example.com}}
defaults: {escalate_to: [ops]}
rules:
  - name: weekly-review
    schedule: {cron: "0 2 * * 0", timezone: Europe/Berlin, task: review, labels: {severity: info}, catch_up: 2h}
    notify: a person reviews the week
  - name: both
    match: ['alertname="Late"']
    schedule: {cron: "5 4 * * *"}
    notify: a person looks
"""


def test_a_rule_file_may_schedule(tmp_path: Path) -> None:
    """A rule without `match` is started by its schedule alone, and one with both by either."""
    (tmp_path / "example.yml").write_text(RULES)
    book = load_rules(tmp_path, {}, {})

    weekly, both = book.schedules
    assert {"severity": "info", "task": "review"} == weekly.labels
    assert ("0 2 * * 0", "Europe/Berlin", 2 * HOUR) == (weekly.cron, weekly.timezone, weekly.catch_up)
    assert HOUR == both.catch_up
    assert () == book.table.match({"alertname": "Anything", "system": "example"})
    assert ["both"] == [found.name for found in book.table.match({"alertname": "Late"})]
    assert ["weekly-review"] == [found.name for found in book.table.match(weekly.alert(NOON).labels)]
    assert "ScheduledWeeklyReview" == alertname("weekly-review")
