"""Stories of the whole pipeline, from the post to the journal, in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.domain.alerts import Status
from remediator.domain.approvals import Person
from remediator.domain.events import first_bad
from remediator.domain.remediations import Phase
from remediator.domain.rules import Mode, RuleTable
from remediator.errors import BadPayload, OutcomeUnknown, PermanentFailure, TemporaryFailure
from remediator.testing import NOON, FakeAction, FakeParams, make_alert, make_payload
from tests.unit.story import LOOSE, MINUTE, PLAYBOOK, RUNG, STEP, Story, rule

ALERT = make_alert()


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    """A service with one rule, in memory."""
    async with Story() as story:
        yield story


async def test_from_the_alert_to_the_verified_result(story: Story) -> None:
    """The main job: planned, approved, applied once, verified, and every step in a journal that holds."""
    await story.post(ALERT)
    assert Phase.AWAITING_APPROVAL is (await story.only()).phase
    assert 0 == story.action.value

    assert "" == await story.vote()
    assert 1 == story.action.value
    await story.wait(10 * MINUTE)

    assert Phase.REMEDIATED is (await story.only()).phase
    assert 1 == story.action.applied
    expected = "received matched judged planned approval_asked vote approved rechecked intent outcome verifying sampled sampled"
    told = await story.kinds()
    assert expected.split()[:12] == told[:12]
    assert "finished" == told[-1]
    assert None is first_bad(await story.ledger.journal())


async def test_dry_run_touches_nothing() -> None:
    """By default the plan is shown with its effect, and that is all."""
    async with Story(mode=Mode.SUGGEST) as story:
        await story.post(ALERT)

        remediation = await story.only()
        assert Phase.SUGGESTED is remediation.phase
        assert remediation.plan is not None
        assert "set 0 -> 1" == remediation.plan.summary
        assert 0 == story.action.applied


async def test_repeats_duplicates_and_replays_change_nothing(story: Story) -> None:
    """The same episode, sent by two Alertmanagers, again and again, is one remediation."""
    for url in ("http://am-1", "http://am-2"):
        for _ in range(3):
            await story.post(ALERT, externalURL=url)

    assert 1 == (await story.kinds()).count("matched")


async def test_a_refire_is_a_new_episode() -> None:
    """The same labels with a new startsAt are a new episode, which the cooldown holds."""
    async with Story(rules=(rule(limits=replace(LOOSE, cooldown=20 * MINUTE)),)) as story:
        await story.post(ALERT)
        await story.vote()
        await story.wait(5 * MINUTE)
        await story.post(make_alert(status=Status.RESOLVED))
        story.action.value = 0
        await story.post(make_alert(at=NOON + 5 * MINUTE))

        newest, oldest = await story.ledger.list()
        assert (Phase.REMEDIATED, Phase.MATCHED) == (oldest.phase, newest.phase)
        assert "still resting" in newest.reason
        await story.wait(20 * MINUTE)
        assert Phase.AWAITING_APPROVAL is (await story.ledger.list())[0].phase


async def test_resolved_before_anybody_decided(story: Story) -> None:
    """A resolved notification ends what waits; the buttons no longer count."""
    await story.post(ALERT)
    await story.post(make_alert(status=Status.RESOLVED))

    assert Phase.RESOLVED_ITSELF is (await story.only()).phase
    assert "nothing to decide" in await story.vote()
    assert 0 == story.action.applied


async def test_resolved_overtakes_firing(story: Story) -> None:
    """A resolved that comes before a slow peer's firing for the same episode wins: nothing is started."""
    await story.post(make_alert(status=Status.RESOLVED))
    await story.post(ALERT)

    assert () == await story.ledger.list()


@pytest.mark.parametrize(
    "world",
    [
        pytest.param({"is_firing": False}, id="no-longer-firing"),
        pytest.param({"is_firing": None}, id="prometheus-gone"),
        pytest.param({"silenced_by": ("s1",)}, id="silenced-since"),
        pytest.param({"inhibited_by": ("a1",)}, id="inhibited-since"),
        pytest.param({"silenced_by": None}, id="alertmanager-gone"),
    ],
)
async def test_the_world_is_asked_again_at_the_click(story: Story, world: dict[str, object]) -> None:
    """What changed between the plan and the click holds it: nothing is applied on an old answer, and when the world is
    back as it was, a person is asked again.
    """
    await story.post(ALERT)
    before = vars(story.world).copy()
    vars(story.world).update(world)
    await story.vote()
    assert Phase.MATCHED is (await story.only()).phase
    assert 0 == story.action.applied

    vars(story.world).update(before)
    await story.wait(MINUTE)
    assert Phase.AWAITING_APPROVAL is (await story.only()).phase
    assert () == (await story.only()).agreed


async def test_drift_between_plan_and_click(story: Story) -> None:
    """The plan that was approved no longer fits: nothing is done, and a new plan is asked for."""
    await story.post(ALERT)
    first = (await story.only()).plan
    story.action.value = 7
    await story.vote()

    remediation = await story.only()
    assert Phase.AWAITING_APPROVAL is remediation.phase
    assert remediation.plan is not None and first is not None
    assert first.digest != remediation.plan.digest
    assert "set 7 -> 1" == remediation.plan.summary
    assert 0 == story.action.applied


class BlindAction(FakeAction):
    """Never gets to see anything."""

    async def observe(self, params: FakeParams) -> int:
        """Waits for good."""
        await asyncio.Event().wait()
        return self.value


async def test_a_look_lasts_no_longer_than_the_step_may() -> None:
    """The step's timeout bounds the look too: what cannot be seen in that time is not planned, and people are told why."""
    playbook = replace(PLAYBOOK, steps=(replace(STEP, timeout=timedelta(milliseconds=20)),))
    async with Story(playbooks=(playbook,), action=BlindAction()) as story:
        await story.post(ALERT)

        remediation = await story.only()
        assert Phase.FAILED is remediation.phase
        assert "fake.set: looking took longer than 0:00:00.020000" == remediation.reason
        assert 0 == story.action.applied


async def test_an_unlisted_person_changes_nothing(story: Story) -> None:
    """A click by somebody who is not an approver is refused, told why, and journaled."""
    await story.post(ALERT)

    assert "not among the approvers" in await story.vote(Person("eve"))
    assert Phase.AWAITING_APPROVAL is (await story.only()).phase
    assert "vote_refused" == (await story.kinds())[-1]


async def test_a_silenced_alert_waits_for_the_silence() -> None:
    """An Alertmanager silence is a handbrake: while it holds nothing is planned, and when it is lifted it goes on."""
    async with Story() as story:
        story.world.silenced_by = ("s1",)
        await story.post(ALERT)
        await story.wait(10 * MINUTE)
        assert Phase.MATCHED is (await story.only()).phase
        assert 1 == (await story.kinds()).count("judged")

        story.world.silenced_by = ()
        await story.wait(MINUTE)
        assert Phase.AWAITING_APPROVAL is (await story.only()).phase


async def test_pause_and_resume() -> None:
    """A pause starts nothing new; after it the remediation goes on."""
    async with Story() as story:
        await story.parts.service.switch("pause", "", "maintenance", "ada")
        await story.post(ALERT)
        assert "paused: maintenance" == (await story.only()).reason

        await story.parts.service.unswitch("pause", "", "ada")
        await story.wait(MINUTE)
        assert Phase.AWAITING_APPROVAL is (await story.only()).phase


async def test_the_kill_switch_stops_before_the_next_step() -> None:
    """Pulled after the approval, it stops even what was approved."""
    async with Story() as story:
        await story.post(ALERT)
        await story.parts.service.switch("kill", "", "stop everything", "ada")
        await story.vote()

        assert Phase.DENIED is (await story.only()).phase
        assert 0 == story.action.applied


async def test_one_active_remediation_per_subject() -> None:
    """Two rules on one subject take turns, though both may run."""
    rules = (rule("first", carry_on=True, limits=replace(LOOSE, concurrency=9)), rule("second", limits=LOOSE))
    async with Story(rules=rules) as story:
        await story.post(ALERT)

        phases = {remediation.rule: remediation.phase for remediation in await story.ledger.list()}
        assert sorted([Phase.AWAITING_APPROVAL, Phase.MATCHED]) == sorted(phases.values())


async def test_rate_limit_is_counted_from_the_ledger() -> None:
    """The third run within the hour is held until the first is an hour old."""
    limits = replace(LOOSE, rate=2, rate_window=timedelta(hours=1), hold=timedelta(hours=2))
    async with Story(mode=Mode.SUGGEST, rules=(rule(limits=limits),)) as story:
        for minute in range(3):
            await story.post(make_alert(at=NOON + minute * MINUTE, instance=str(minute)))
            await story.wait(MINUTE)

        third = (await story.ledger.list())[0]
        assert Phase.MATCHED is third.phase
        assert third.pending is not None
        assert NOON + timedelta(hours=1) == third.pending.until


async def test_not_verified_is_undone_and_escalated(story: Story) -> None:
    """When the symptom stays, what was done is taken back and people are called with the evidence."""
    story.world.gone = False
    await story.post(ALERT)
    await story.vote()
    await story.wait(40 * MINUTE)
    await story.parts.outbox.flush()

    assert Phase.INEFFECTIVE is (await story.only()).phase
    assert (0, 1) == (story.action.value, story.action.undone)
    (call,) = [sent for sent in story.messenger.delivered if sent.message.kind == "escalation"]
    assert "not verified" in call.message.data["reason"]


async def test_no_answer_is_not_verified(story: Story) -> None:
    """Prometheus that does not answer during verification is no success."""
    await story.post(ALERT)
    await story.vote()
    story.world.gone = None
    await story.wait(40 * MINUTE)

    assert Phase.INEFFECTIVE is (await story.only()).phase


async def test_the_next_rung_is_planned_anew() -> None:
    """After the first rung did not help, the second asks on its own."""
    async with Story(rules=(rule("rule", 'alertname="CacheHitRateLow"', RUNG, RUNG),)) as story:
        story.world.gone = False
        await story.post(ALERT)
        await story.vote()
        await story.wait(31 * MINUTE)

        remediation = await story.only()
        assert (1, Phase.AWAITING_APPROVAL) == (remediation.rung, remediation.phase)


async def test_a_temporary_failure_is_tried_again_only_where_idempotent() -> None:
    """An idempotent step is retried; the other stops at the first failure."""
    for idempotent, expected in ((True, Phase.VERIFYING), (False, Phase.FAILED)):
        playbook = replace(PLAYBOOK, steps=(replace(STEP, tries=3),))
        async with Story(playbooks=(playbook,)) as story:
            story.action.idempotent_ = idempotent
            story.action.fails = [TemporaryFailure("busy")]
            await story.post(ALERT)
            await story.vote()

            assert expected is (await story.only()).phase


async def test_a_permanent_failure_escalates(story: Story) -> None:
    """A step that failed for good ends in a person's hands."""
    story.action.fails = [PermanentFailure("refused")]
    await story.post(ALERT)
    await story.vote()

    assert Phase.FAILED is (await story.only()).phase


async def test_an_unknown_outcome_is_looked_at(story: Story) -> None:
    """A lost answer is followed by a look, and by another recheck before the step is tried again."""
    story.action.fails = [OutcomeUnknown("connection lost")]
    await story.post(ALERT)
    await story.vote()

    told = await story.kinds()
    assert ["intent", "failed", "reobserved", "rechecked", "intent", "outcome"] == told[
        told.index("intent") : told.index("verifying")
    ]


async def test_a_defect_in_an_action_ends_with_a_person(story: Story) -> None:
    """An exception that no action should raise loops nothing and loses nothing."""
    story.action.fails = [ZeroDivisionError("oops")]  # type: ignore[list-item]
    await story.post(ALERT)
    await story.vote()

    assert "reobserved" in await story.kinds()


async def test_a_restart_goes_on_where_it_stopped(story: Story) -> None:
    """While awaiting approval and while verifying, a restart loses nothing and repeats nothing."""
    await story.post(ALERT)
    story.parts = story.assemble()
    assert 1 == await story.parts.advance.recover()
    await story.vote()
    story.parts = story.assemble()
    await story.parts.advance.recover()
    await story.wait(10 * MINUTE)

    assert Phase.REMEDIATED is (await story.only()).phase
    assert 1 == story.action.applied


async def test_a_wrong_payload_is_kept_for_inspection(story: Story) -> None:
    """It is refused with the reason, and the body can be looked at."""
    with pytest.raises(BadPayload, match="groupKey"):
        await story.parts.service.ingest(b'{"version": "4"}', "10.0.0.1")

    (kept,) = await story.ledger.deliveries()
    assert b'{"version": "4"}' == kept.body
    assert "groupKey" in kept.rejected


async def test_a_truncated_notification_is_completed() -> None:
    """What max_alerts cut off is fetched from Alertmanager and treated like the rest."""
    rules = (rule(match='alertname=~"Cache.*"', limits=replace(LOOSE, concurrency=9), subject="{instance}"),)
    async with Story(rules=rules) as story:
        story.world.rest = (ALERT, make_alert(instance="cut"))
        await story.post(ALERT, truncated=1)

        assert 2 == len(await story.ledger.list())


async def test_a_truncated_notification_that_cannot_be_completed_is_told(story: Story) -> None:
    """Nobody knows what was cut: that is journaled, not passed over."""

    async def silent(_: object) -> tuple[object, ...]:
        from remediator.errors import WorldUnavailable

        raise WorldUnavailable("no")

    story.world.alerts = silent  # type: ignore[assignment, method-assign]
    await story.post(ALERT, truncated=3)

    assert "truncated_unknown" in await story.kinds()


async def test_each_alert_is_judged_by_its_own_status(story: Story) -> None:
    """In a group where one resolved and one fires, only the firing one starts something."""
    await story.post(make_alert(instance="a", status=Status.RESOLVED), make_alert(instance="b"))

    assert "b" == (await story.only()).labels["instance"]


async def test_wrong_fingerprints_mix_up_nothing(story: Story) -> None:
    """Two alerts that a sender gives one fingerprint are two, and one alert with two fingerprints is one."""
    story.parts.ingest.use(RuleTable([rule(subject="{instance}", limits=replace(LOOSE, concurrency=9))]))
    for sent in ("00", "00", "ff"):
        for instance in ("a", "b"):
            body = json.loads(make_payload(make_alert(instance=instance)))
            body["alerts"][0]["fingerprint"] = sent
            await story.parts.service.ingest(json.dumps(body).encode(), "test")
    await story.settle()

    assert {"a", "b"} == {remediation.labels["instance"] for remediation in await story.ledger.list()}
    assert 2 == (await story.kinds()).count("matched")


async def test_a_repeat_is_heard_of_a_minute_later(story: Story) -> None:
    """What was settled a moment ago is passed over, and after a minute the ledger hears of it again."""
    await story.post(ALERT)
    first = (await story.ledger.load((await story.only()).id)).received_at
    for _ in range(3):
        await story.wait(timedelta(seconds=31))
        await story.post(ALERT)

    assert first < (await story.ledger.load((await story.only()).id)).received_at
