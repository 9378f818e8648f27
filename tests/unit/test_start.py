"""Rules that people start: what may be chosen, that a double click starts once, and that the starter cannot approve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from remediator.adapters.ledger import SqlLedger, bodies
from remediator.adapters.rulefiles import load_rules
from remediator.domain.alerts import Alert
from remediator.domain.approvals import Approval, Person
from remediator.domain.playbooks import Playbook
from remediator.domain.remediations import Phase
from remediator.domain.rules import Mode, OnDemand
from remediator.errors import CannotStart, LedgerUnavailable, MayNotStart
from remediator.pipeline.episodes import OwnEpisodes
from remediator.pipeline.match import draft
from remediator.pipeline.ports import Accepted, Delivery, Sighting, Switch
from remediator.pipeline.schedule import Scheduler
from remediator.pipeline.start import Started, alertname
from remediator.testing import NOON, VirtualClock
from tests.unit.story import ADA, LOOSE, MINUTE, RUNG, Story, rule

BOB, EVE = Person("bob", frozenset({"devops"})), Person("eve")
OPEN = OnDemand(
    {"colour": "blue", "severity": "info"}, {"colour": ("blue", "green"), "site": ("east", "west")}
)
SWITCH = replace(
    rule("switch-colour", 'alertname="OnDemandSwitchColour"', limits=LOOSE),
    on_demand=OnDemand({"colour": "blue"}, {"colour": ("blue", "green")}),
    subject="proxy/{colour}",
)
WHY = "release 4.2"


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    """A service that may act, whose Prometheus says that nothing fires."""
    async with Story(rules=(SWITCH, rule("by-alert"))) as story:
        story.world.is_firing = False
        yield story


async def start(story: Story, person: Person = ADA, **given: str) -> Started:
    """A person starts the rule, and everything that is due is carried on."""
    started = await story.parts.service.start("switch-colour", given, WHY, person)
    await story.settle()
    return started


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"site": "east"}, {"colour": "blue", "severity": "info", "site": "east"}, id="default"),
        pytest.param(
            {"site": "west", "colour": "green"},
            {"colour": "green", "severity": "info", "site": "west"},
            id="chosen",
        ),
    ],
)
def test_choices(given: dict[str, str], expected: dict[str, str]) -> None:
    """What is given goes before the default, and what is fixed is there."""
    assert expected == OPEN.chosen(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({}, "site is missing; choose east, west", id="missing"),
        pytest.param({"site": "north"}, "site cannot be 'north'; choose east, west", id="not-listed"),
        pytest.param({"site": ""}, "site cannot be ''", id="empty"),
        pytest.param({"site": "east", "severity": "critical"}, "'severity' is not for you", id="fixed"),
        pytest.param({"site": "east", "instance": "db-1"}, "'instance' is not for you", id="unknown"),
        pytest.param({"site": "east", "system": "other"}, "'system' is not for you", id="our-own"),
    ],
)
def test_a_wrong_choice_is_refused(given: dict[str, str], told: str) -> None:
    """A value may only choose among what the rule lists: never a new subject, severity or system."""
    with pytest.raises(CannotStart, match=told):
        OPEN.chosen(given)


async def test_a_start_goes_the_whole_way(story: Story) -> None:
    """Planned, approved by somebody else, applied once and verified, though Prometheus knows of no such alert."""
    started = await start(story, colour="green")

    waiting = await story.only()
    assert Started(waiting.id, begun=True) == started
    assert Phase.AWAITING_APPROVAL is waiting.phase
    assert "ada" == waiting.started_by
    assert "proxy/green" == waiting.subject
    assert {
        "alertname": "OnDemandSwitchColour",
        "system": "brainstem",
        "rule": "switch-colour",
        "colour": "green",
    } == dict(waiting.labels)
    assert "started by ada: release 4.2" == waiting.annotations["summary"]

    assert "" == await story.vote(BOB)
    await story.wait(10 * MINUTE)

    assert Phase.REMEDIATED is (await story.only()).phase
    assert 1 == story.action.applied


async def test_it_is_counted_once(story: Story) -> None:
    """The metric of what begins counts a start, and not the second click."""

    def begun() -> float:
        return REGISTRY.get_sample_value("remediator_alerts_total", {"outcome": "begun"}) or 0

    before = begun()
    await start(story)
    await start(story)

    assert before + 1 == begun()


async def test_the_journal_says_who_and_why(story: Story) -> None:
    """The starter's word stands before what it began, under the same remediation."""
    started = await start(story)

    first, second = (await story.ledger.journal(remediation=started.id))[:2]
    assert ("started", "matched") == (first.event.kind, second.event.kind)
    assert ("ada", WHY, "switch-colour") == tuple(first.event.data[name] for name in ("by", "reason", "rule"))


async def test_dry_run_touches_nothing() -> None:
    """With the service's default mode a start suggests, and that is all."""
    async with Story(rules=(SWITCH,), mode=Mode.SUGGEST) as story:
        await start(story)

        assert Phase.SUGGESTED is (await story.only()).phase
        assert 0 == story.action.applied


async def test_a_double_click_starts_once(story: Story) -> None:
    """Twice in a minute, also by two people, is one remediation and one word; whoever was first started it."""
    first = await start(story)
    story.clock.to(NOON + timedelta(seconds=59))
    second = await start(story, BOB)

    assert Started(first.id, begun=False) == second
    assert "ada" == (await story.only()).started_by
    assert 1 == (await story.kinds()).count("started")


async def test_two_at_once_start_once(story: Story) -> None:
    """Two requests that are in the air together are one remediation, and one of them is told that it began it."""
    both = await asyncio.gather(start(story), start(story, BOB))

    assert [False, True] == sorted(started.begun for started in both)
    assert 1 == (await story.kinds()).count("started")


async def test_the_next_minute_and_another_choice_are_others(story: Story) -> None:
    """What is asked for anew, or otherwise, begins anew."""
    ids = {(await start(story)).id, (await start(story, colour="green")).id}
    story.clock.to(NOON + MINUTE)
    ids.add((await start(story)).id)

    assert 3 == len(ids)
    assert ids == {remediation.id for remediation in await story.ledger.list()}


async def test_the_starter_cannot_approve(story: Story) -> None:
    """An approver who started it is refused, in any number of tries, and may still take it back."""
    await start(story)

    assert "ada started it; another person has to agree" == await story.vote(ADA)
    assert Phase.AWAITING_APPROVAL is (await story.only()).phase
    assert 0 == story.action.applied
    assert "" == await story.vote(ADA, approve=False)
    assert Phase.REJECTED is (await story.only()).phase


async def test_of_two_votes_none_is_the_starters() -> None:
    """A rule that asks two people asks two others."""
    two = replace(RUNG, approval=Approval(frozenset({"devops"}), votes=2))
    async with Story(rules=(replace(SWITCH, ladder=(two,)),)) as story:
        await start(story)
        await story.vote(BOB)
        assert "ada started it; another person has to agree" == await story.vote(ADA)
        assert Phase.AWAITING_APPROVAL is (await story.only()).phase

        await story.vote(Person("cy", frozenset({"devops"})))
        await story.wait(10 * MINUTE)

        assert Phase.REMEDIATED is (await story.only()).phase


async def test_the_starter_may_do_a_runbook() -> None:
    """Who starts a runbook and does it says that it is done: that permits nothing that we would do."""
    book = Playbook("look", "Look yourself", "low", (), checklist=("look",))
    looking = replace(SWITCH, ladder=(replace(RUNG, playbook="look", mode=Mode.NOTIFY),))
    async with Story(rules=(looking,), playbooks=(book,)) as story:
        await start(story)
        assert "" == await story.vote(ADA)


@pytest.mark.parametrize(
    ("person", "allowed"), [pytest.param(ADA, True, id="approver"), pytest.param(EVE, False, id="listed")]
)
async def test_where_nobody_is_asked_only_approvers_start(person: Person, allowed: bool) -> None:
    """A rule that acts by itself is started by those who could approve it, and by nobody else."""
    async with Story(rules=(replace(SWITCH, ladder=(replace(RUNG, mode=Mode.AUTO),)),)) as story:
        if allowed:
            await start(story, person)
            await story.wait(10 * MINUTE)
        else:
            with pytest.raises(MayNotStart, match="only its approvers \\(devops\\) start it"):
                await start(story, person)

        assert int(allowed) == story.action.applied
        assert int(allowed) == len(await story.ledger.list())


async def test_only_rules_that_say_so(story: Story) -> None:
    """A rule for alerts is not started by people, and an unknown one is not there; nothing is journalled."""
    with pytest.raises(CannotStart, match="it has no on_demand"):
        await story.parts.service.start("by-alert", {}, WHY, ADA)
    with pytest.raises(KeyError):
        await story.parts.service.start("no-such-rule", {}, WHY, ADA)
    with pytest.raises(CannotStart):
        await start(story, colour="red")

    assert [] == await story.kinds()


async def test_guards_hold_it(story: Story) -> None:
    """A pause and a silence on its labels are handbrakes of what people start, too."""
    await story.ledger.switch(Switch("pause", "", "a freeze", "cy", NOON))
    story.world.silenced_by = ("s-1",)
    await start(story)

    held = await story.only()
    assert Phase.MATCHED is held.phase
    assert "paused: a freeze" in held.reason
    assert "silenced by s-1" in held.reason


async def test_a_post_of_that_name_is_no_start(story: Story) -> None:
    """Who posts an alert with the name of a started run is nobody: Prometheus is asked, and says no."""
    labels = {"alertname": alertname("switch-colour"), "colour": "blue"}
    await story.post(Alert(labels, NOON))

    assert Phase.AWAITING_APPROVAL is not (await story.only()).phase
    assert 0 == story.action.applied


async def test_its_episode_ends_with_it(story: Story) -> None:
    """Afterwards nothing counts as firing for ever, also when we were stopped in between."""
    await start(story)
    assert ["OnDemandSwitchColour"] == [labels["alertname"] for labels, _ in await story.ledger.firing()]
    await story.vote(BOB, approve=False)

    restarted = OwnEpisodes(story.ledger, story.parts.dispatch)
    await Scheduler(story.ledger, restarted, story.clock, story.mode, tuple).round()

    assert () == await story.ledger.firing()


class FullDisk(SqlLedger):
    """A ledger whose next delivery cannot be written."""

    failures = 1

    async def accept(self, delivery: Delivery, sightings: Sequence[Sighting] = ()) -> Accepted:
        """Fail as often as told."""
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("no space left on device")
        return await super().accept(delivery, sightings)


async def test_what_could_not_be_written_did_not_begin() -> None:
    """The person is told, and the next try of the same minute begins it."""
    async with Story(rules=(SWITCH,)) as story:
        await story.ledger.close()
        story.ledger = FullDisk.open("sqlite://", story.clock)
        story.parts = story.assemble()
        with pytest.raises(LedgerUnavailable):
            await start(story)
        assert () == await story.ledger.list()

        assert (await start(story)).begun


def test_rows_of_before_are_read() -> None:
    """A remediation that was kept before there were starts is read as one that nobody started."""
    kept = draft(SWITCH, Alert({"alertname": "X"}, NOON), Mode.APPROVE, VirtualClock().now())
    body = bodies.encode(kept)
    assert '"started_by":""' in body

    read = bodies.decode(body.replace(',"started_by":""', ""), bodies.snapshot_of(kept).body)

    assert kept == read
    assert not read.alertless


RULES = """\
system: example
contacts: {ops: {name: Operations, email: ops@example.com}}
defaults: {escalate_to: [ops]}
rules:
  - name: by-hand
    on_demand: {labels: {severity: info}, choices: {site: [east, west]}}
    subject: "example/{site}"
    notify: a person does it
  - name: either
    match: ['alertname="Late"']
    on_demand: {}
    notify: a person looks
  - name: clock-or-hand
    schedule: {cron: "5 4 * * *"}
    on_demand: {}
    notify: a person looks
"""


def test_a_rule_file_may_leave_it_to_people(tmp_path: Path) -> None:
    """A rule without `match` matches its own start alone; beside `match` and `schedule` it changes nothing."""
    (tmp_path / "example.yml").write_text(RULES)
    table = load_rules(tmp_path, {}, {}).table

    assert OnDemand({"severity": "info"}, {"site": ("east", "west")}) == table.by_name["by-hand"].on_demand
    assert () == table.match({"alertname": "Anything"})
    for name, found in {
        "OnDemandByHand": "by-hand",
        "Late": "either",
        "OnDemandClockOrHand": "clock-or-hand",
        "ScheduledClockOrHand": "clock-or-hand",
    }.items():
        assert [found] == [one.name for one in table.match({"alertname": name})]
