"""The state machine: its stories one by one, and random walks that must never do what it must never do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.domain.approvals import Approval, Person, Vote
from remediator.domain.facts import (
    Applied,
    Begun,
    Escalated,
    Fact,
    Failed,
    Interrupted,
    Judged,
    Planned,
    Reobserved,
    Resolved,
    Sampled,
    Undone,
    Voted,
    Woken,
)
from remediator.domain.guards import Allow, Deny, Limits
from remediator.domain.machine import decide
from remediator.domain.plans import Effect, Plan, PlannedStep, Progress, Result
from remediator.domain.remediations import FINAL, Do, Phase, Remediation, Transition
from remediator.domain.rules import Mode, Rung, Verify
from remediator.errors import IllegalTransition
from remediator.testing import NOON

MINUTE = timedelta(minutes=1)
GO = Judged((Allow("pause"),))
ADA = Person("ada", frozenset({"devops"}))
VERIFY = Verify("x > 1", hold=5 * MINUTE, within=30 * MINUTE, every=MINUTE)
APPROVAL = Approval(frozenset({"devops"}))


def effect(n: int, **changes: object) -> Effect:
    """An effect that can be undone."""
    return replace(Effect("fake.set", f"s{n}", {}, f"set s{n}", undo="set back"), **changes)  # type: ignore[arg-type]


def plan(steps: int = 1, *, idempotent: bool = True, **changes: object) -> Plan:
    """A plan of so many steps."""
    made = tuple(
        PlannedStep(f"step {n}", "fake.set", "c", {}, (effect(n, **changes),), idempotent=idempotent)
        for n in range(steps)
    )
    return Plan("playbook", made, NOON)


def begin(*rungs: Mode, cap: Mode = Mode.AUTO, verify: Verify | None = VERIFY) -> Remediation:
    """A remediation that was just matched."""
    ladder = tuple(Rung("playbook", mode=mode, approval=APPROVAL, verify=verify) for mode in rungs)
    matched = Remediation(
        id="r1",
        rule="rule",
        system="brainstem",
        subject="subject",
        episode="f@t",
        fingerprint="f",
        labels={},
        annotations={},
        starts_at=NOON,
        created_at=NOON,
        ladder=ladder,
        cap=cap,
        limits=Limits(),
    )
    return decide(matched, Begun(), NOON).after


def yes(remediation: Remediation, by: Person = ADA, *, approve: bool = True) -> Voted:
    """A vote on the plan that waits."""
    assert remediation.plan is not None
    return Voted(Vote(by, approve, remediation.plan.digest, "slack"))


def walk(remediation: Remediation, *facts: Fact, now: datetime = NOON) -> Remediation:
    """Where it stands after these facts."""
    for fact in facts:
        remediation = decide(remediation, fact, now).after
    return remediation


def test_the_service_mode_suggest_ends_every_mode_as_a_suggestion() -> None:
    """In a dry run nothing is asked and nothing is applied, whatever the rule says."""
    for mode in Mode:
        end = walk(begin(mode, cap=Mode.SUGGEST), GO, Planned(plan()))

        assert Phase.SUGGESTED is end.phase
        assert end.pending is None


def test_the_straight_way() -> None:
    """Matched, judged, planned, approved, executed step by step, verified."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan(2)))
    assert (asked.phase, asked.pending.do) == (Phase.AWAITING_APPROVAL, Do.ASK)  # type: ignore[union-attr]

    first = walk(asked, yes(asked), GO)
    assert (first.phase, first.pending.do, first.pending.step) == (Phase.EXECUTING, Do.APPLY, 0)  # type: ignore[union-attr]

    second = walk(first, Applied(Result("done")), GO)
    assert (second.pending.do, second.pending.step) == (Do.APPLY, 1)  # type: ignore[union-attr]

    sampled = walk(second, Applied(Result("done")), Sampled(True))
    assert Phase.VERIFYING is sampled.phase
    held = walk(sampled, Woken(), Sampled(True), now=NOON + 5 * MINUTE)
    assert Phase.REMEDIATED is held.phase


def test_intent_is_journaled_in_the_transition_before_the_step() -> None:
    """The transition that asks for a step carries its intent, so it is written before anything is done."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))
    transition = decide(walk(asked, yes(asked)), GO, NOON)

    assert Do.APPLY is transition.command.do  # type: ignore[union-attr]
    assert [event.kind for event in transition.events] == ["rechecked", "intent"]


def test_auto_does_not_ask() -> None:
    """An `auto` rung goes on by itself, through the recheck."""
    assert Do.RECHECK is walk(begin(Mode.AUTO), GO, Planned(plan())).pending.do  # type: ignore[union-attr]


def test_what_is_irreversible_is_never_auto() -> None:
    """An irreversible effect asks a person, though its rung says auto."""
    asked = walk(begin(Mode.AUTO), GO, Planned(plan(undo="", irreversible=True)))

    assert Phase.AWAITING_APPROVAL is asked.phase


@pytest.mark.parametrize(
    ("deny", "phase"),
    [
        pytest.param(Deny("cooldown", "rest", until=NOON + MINUTE), Phase.MATCHED, id="held"),
        pytest.param(
            Deny("cooldown", "rest", until=NOON + 61 * MINUTE), Phase.ESCALATING, id="held-for-too-long"
        ),
        pytest.param(Deny("freshness", "stale"), Phase.ESCALATING, id="for-good-and-loud"),
        pytest.param(Deny("kill_switch", "on", quiet=True), Phase.DENIED, id="for-good-and-quiet"),
        pytest.param(Deny("resolved", "over", quiet=True), Phase.RESOLVED_ITSELF, id="over"),
        pytest.param(
            Deny("firing", "no", until=NOON + 61 * MINUTE, quiet=True),
            Phase.RESOLVED_ITSELF,
            id="not-firing-for-long",
        ),
    ],
)
def test_a_denial(deny: Deny, phase: Phase) -> None:
    """A denial with a time is held until then; one without ends it, loudly unless somebody wished it."""
    assert phase is walk(begin(Mode.APPROVE), Judged((deny, Allow("pause")))).phase


def test_a_held_remediation_is_judged_again_at_its_time_and_not_before() -> None:
    """Waking early changes nothing; waking in time asks the guards again."""
    held = walk(begin(Mode.APPROVE), Judged((Deny("cooldown", "rest", until=NOON + MINUTE),)))

    assert held == walk(held, Woken(), now=NOON + MINUTE - timedelta(seconds=1))
    assert Do.JUDGE is walk(held, Woken(), now=NOON + MINUTE).pending.do  # type: ignore[union-attr]


def test_drift_after_the_click_asks_again() -> None:
    """What runs is what was approved: a moved world needs a new plan and a new word."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))
    moved = walk(asked, yes(asked), replace(GO, drift=("it moved",)))
    assert (moved.phase, moved.pending.do) == (Phase.JUDGED, Do.PLAN)  # type: ignore[union-attr]

    again = walk(moved, Planned(plan(2)))
    assert Phase.AWAITING_APPROVAL is again.phase
    assert again.agreed == ()
    assert decide(again, yes(asked), NOON).refused


def test_a_world_that_keeps_moving_goes_to_a_person() -> None:
    """After so many plans it is handed over instead of asked for ever."""
    state = walk(begin(Mode.AUTO), GO)
    for _ in range(4):
        state = walk(state, Planned(plan()), replace(GO, drift=("it moved",)))

    assert Phase.ESCALATING is walk(state, Planned(plan())).phase


def test_two_votes_are_two_people() -> None:
    """One person's second click does not count, and another's does."""
    start = begin(Mode.APPROVE)
    start = replace(start, ladder=(replace(start.ladder[0], approval=replace(APPROVAL, votes=2)),))
    once = walk(start, GO, Planned(plan()))
    once = walk(once, yes(once))
    assert Phase.AWAITING_APPROVAL is once.phase

    assert decide(once, yes(once), NOON).refused
    assert Phase.APPROVED is walk(once, yes(once, Person("bob", frozenset({"devops"})))).phase


def test_an_approval_is_used_once() -> None:
    """The same click a second time finds nothing to decide."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))

    assert decide(walk(asked, yes(asked)), yes(asked), NOON).refused


def test_an_expired_approval_does_not_count() -> None:
    """After the hour nobody's word counts, and people are called."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))
    late = NOON + timedelta(hours=1)

    assert decide(asked, yes(asked), late).refused
    gone = walk(asked, Woken(), Escalated(), now=late)
    assert Phase.EXPIRED is gone.phase


def test_rejected() -> None:
    """A rejection ends it; nothing is done."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))

    assert Phase.REJECTED is walk(asked, yes(asked, approve=False)).phase


def test_resolved_while_waiting() -> None:
    """An alert that resolves before anybody decided needs nothing."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))

    assert Phase.RESOLVED_ITSELF is walk(asked, Resolved()).phase


def test_resolved_between_steps_is_verified_not_continued() -> None:
    """After the first step a resolved alert stops the second; the verification decides."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan(2)))
    first = walk(asked, yes(asked), GO, Applied(Result("done")))

    over = walk(first, Judged((Deny("resolved", "over", quiet=True),)))
    assert Phase.VERIFYING is over.phase


def test_the_kill_switch_between_steps_undoes_and_escalates() -> None:
    """What was done before the switch is taken back, last first, and people are called."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan(3)))
    two_done = walk(asked, yes(asked), GO, Applied(Result("1")), GO, Applied(Result("2")))

    stopped = walk(two_done, Judged((Deny("kill_switch", "on", quiet=True),)))
    assert (stopped.pending.do, stopped.pending.step) == (Do.UNDO, 1)  # type: ignore[union-attr]
    again = walk(stopped, Undone(Result("1 back")))
    assert (again.pending.do, again.pending.step) == (Do.UNDO, 0)  # type: ignore[union-attr]
    assert Phase.FAILED is walk(again, Undone(Result("0 back")), Escalated()).phase


def test_a_failed_step_stops_the_rest() -> None:
    """The first failure ends the playbook: the next step is never asked for."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan(2)))
    failed = walk(asked, yes(asked), GO, Failed("boom"))

    assert (failed.phase, failed.outcome) == (Phase.ESCALATING, Phase.FAILED)


def test_no_sample_is_not_verified() -> None:
    """Missing data never counts as success, however long it is missing."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))
    state = walk(asked, yes(asked), GO, Applied(Result("done")))
    for minute in range(0, 30, 5):
        state = walk(state, Sampled(None), Woken(), now=NOON + minute * MINUTE)
        assert Phase.VERIFYING is state.phase

    late = walk(state, Sampled(None), now=NOON + 31 * MINUTE)
    assert (late.phase, late.outcome) == (Phase.UNDOING, Phase.INEFFECTIVE)


def test_a_symptom_that_comes_back_starts_the_hold_again() -> None:
    """The symptom must be gone all through the hold."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))
    state = walk(asked, yes(asked), GO, Applied(Result("done")), Sampled(True))
    state = walk(state, Woken(), Sampled(False), now=NOON + 4 * MINUTE)
    state = walk(state, Woken(), Sampled(True), now=NOON + 5 * MINUTE)

    assert Phase.VERIFYING is walk(state, Woken(), Sampled(True), now=NOON + 9 * MINUTE).phase
    assert Phase.REMEDIATED is walk(state, Woken(), Sampled(True), now=NOON + 10 * MINUTE).phase


def test_not_verified_undoes_then_climbs_then_escalates() -> None:
    """Verify -> undo -> next rung -> people."""
    asked = walk(begin(Mode.APPROVE, Mode.APPROVE), GO, Planned(plan()))
    late = NOON + 31 * MINUTE
    tried = walk(asked, yes(asked), GO, Applied(Result("done")))
    climbed = walk(tried, Sampled(False), Undone(Result("back")), now=late)
    assert (climbed.phase, climbed.rung, climbed.pending.do) == (Phase.MATCHED, 1, Do.JUDGE)  # type: ignore[union-attr]

    asked = walk(climbed, GO, Planned(plan()), now=late)
    tried = walk(asked, yes(asked), GO, Applied(Result("done")), now=late)
    end = walk(tried, Sampled(False), Undone(Result("back")), Escalated(), now=late + 31 * MINUTE)
    assert Phase.INEFFECTIVE is end.phase


def test_a_containment_is_never_lifted_by_itself() -> None:
    """A playbook that says so is not undone when it is not verified."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(replace(plan(), undo=False)))
    tried = walk(asked, yes(asked), GO, Applied(Result("done")))

    assert Phase.ESCALATING is walk(tried, Sampled(False), now=NOON + 31 * MINUTE).phase


@pytest.mark.parametrize(
    ("seen", "idempotent", "expected"),
    [
        pytest.param(Progress.DONE, False, Phase.VERIFYING, id="done-is-done"),
        pytest.param(
            Progress.UNTOUCHED, True, Phase.EXECUTING, id="untouched-and-idempotent-runs-after-a-recheck"
        ),
        pytest.param(
            Progress.UNTOUCHED, False, Phase.ESCALATING, id="untouched-but-not-idempotent-is-a-persons"
        ),
        pytest.param(Progress.UNCLEAR, True, Phase.ESCALATING, id="unclear-is-a-persons"),
    ],
)
def test_interrupted_between_intent_and_outcome(seen: Progress, idempotent: bool, expected: Phase) -> None:
    """An intent without an outcome is looked at again, never blindly repeated."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan(idempotent=idempotent)))
    back = walk(walk(asked, yes(asked), GO), Interrupted())
    assert Do.REOBSERVE is back.pending.do  # type: ignore[union-attr]

    after = walk(back, Reobserved(seen))
    assert expected is after.phase
    assert Do.APPLY is not after.pending.do  # type: ignore[union-attr]


def test_a_timeout_is_looked_at_again() -> None:
    """A step that may have happened is not reported as failed: we look."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))

    assert Do.REOBSERVE is walk(asked, yes(asked), GO, Failed("slow", certain=False)).pending.do  # type: ignore[union-attr]


def test_a_step_whose_outcome_is_always_lost_goes_to_a_person() -> None:
    """It is begun three times, with a recheck before each, and not for ever."""
    asked = walk(begin(Mode.APPROVE), GO, Planned(plan()))
    state = walk(asked, yes(asked), GO)
    for _ in range(2):
        state = walk(state, Failed("lost", certain=False), Reobserved(Progress.UNTOUCHED), GO)
        assert Do.APPLY is state.pending.do  # type: ignore[union-attr]

    last = walk(state, Failed("lost", certain=False), Reobserved(Progress.UNTOUCHED))
    assert (Phase.ESCALATING, Phase.UNKNOWN) == (last.phase, last.outcome)


def test_a_runbook_is_confirmed_by_a_person_and_verified_by_its_figure() -> None:
    """Nothing is executed; a person says that it was done, and Prometheus has the last word."""
    runbook = Plan("runbook", (), NOON, ("look at it",))
    asked = walk(begin(Mode.NOTIFY), GO, Planned(runbook))
    assert Phase.AWAITING_APPROVAL is asked.phase

    assert Phase.VERIFYING is walk(asked, yes(asked)).phase


def test_a_runbook_that_did_not_help_climbs() -> None:
    """The word that it did not help proposes the next rung."""
    runbook = Plan("runbook", (), NOON, ("look at it",))
    asked = walk(begin(Mode.NOTIFY, Mode.APPROVE), GO, Planned(runbook))
    climbed = walk(asked, yes(asked, approve=False))

    assert (climbed.phase, climbed.rung) == (Phase.MATCHED, 1)


def test_an_illegal_fact_raises() -> None:
    """The machine takes no fact that its phase cannot have seen."""
    with pytest.raises(IllegalTransition):
        decide(begin(Mode.AUTO), Applied(Result("out of nowhere")), NOON)


FACTS = st.sampled_from(
    [
        GO,
        Judged((Deny("cooldown", "rest", until=NOON + MINUTE),)),
        Judged((Deny("firing", "over", quiet=True),)),
        Judged((Allow("pause"),), ("it moved",)),
        Planned(plan(2)),
        Planned(plan(1, undo="", irreversible=True)),
        Failed("boom"),
        Failed("lost", certain=False),
        Woken(),
        Resolved(),
        Applied(Result("done")),
        Reobserved(Progress.DONE),
        Reobserved(Progress.UNTOUCHED),
        Reobserved(Progress.UNCLEAR),
        Sampled(True),
        Sampled(False),
        Sampled(None),
        Undone(Result("back")),
        Escalated(),
        Interrupted(),
        "yes",
        "no",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([Mode.AUTO, Mode.APPROVE, Mode.SUGGEST]),
    st.lists(st.tuples(FACTS, st.integers(0, 40)), max_size=60),
)
def test_random_walks(cap: Mode, story: list[tuple[Fact | str, int]]) -> None:
    """However facts come, no step is applied without a fresh recheck and, in approve mode, an approval of that
    very plan; no step is applied again unless a look said it was untouched; ends are ends.
    """
    state, now = begin(Mode.APPROVE, Mode.AUTO, cap=cap), NOON
    approved: set[str] = set()
    applied: set[tuple[int, int, int]] = set()
    for fact, minutes in story:
        now += minutes * MINUTE
        if isinstance(fact, str):
            if state.plan is None:
                continue
            fact = yes(state, approve=fact == "yes")
        was = state
        try:
            transition: Transition = decide(state, fact, now)
        except IllegalTransition:
            continue
        state = transition.after
        if was.phase in FINAL:
            assert state == was
        if isinstance(fact, Voted) and not transition.refused and fact.vote.approve:
            approved.add(fact.vote.digest)
        command = state.pending
        if command is not None and command.do is Do.APPLY and command != was.pending:
            assert isinstance(fact, Judged)
            assert not fact.drift
            assert cap is not Mode.SUGGEST
            assert state.plan is not None
            if state.mode is not Mode.AUTO or state.plan.irreversible:
                assert state.plan.digest in approved
            key = (state.rung, state.plans_made, command.step)
            assert key not in applied
            applied.add(key)
        if isinstance(fact, Reobserved) and fact.progress is Progress.UNTOUCHED:
            applied.discard((was.rung, was.plans_made, was.step))
        assert (state.phase in FINAL) == (state.pending is None)
