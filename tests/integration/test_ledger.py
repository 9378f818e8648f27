"""The ledger's contract, the same for a file and for memory."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from remediator.adapters.ledger import SqlLedger
from remediator.domain.events import Event
from remediator.domain.guards import Limits
from remediator.domain.plans import Effect, Plan, PlannedStep, Result
from remediator.domain.remediations import Command, Do, Phase, Remediation, Transition
from remediator.domain.rules import Mode
from remediator.errors import LedgerUnavailable, StaleWrite
from remediator.pipeline.ports import Accepted, Delivery, Message, Sighting, Switch
from tests.integration.ledger_kit import (
    MINUTE,
    NOW,
    SECOND,
    StillClock,
    alert,
    delivery,
    draft,
    ended,
    facts,
    post,
    reserve,
    sighting,
)

CARD = Message("card")


@pytest.fixture
def clock() -> StillClock:
    """A clock that stands still."""
    return StillClock()


@pytest.fixture(params=["file", "memory"])
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock
) -> AsyncIterator[SqlLedger]:
    """An empty ledger, in a file and in memory."""
    url = "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db"
    opened = SqlLedger.open(url, clock)
    yield opened
    await opened.close()


async def begin(ledger: SqlLedger, name: str = "a", rule: str = "cache", **options: Any) -> Remediation:
    """A remediation that was just matched."""
    of = alert(name)
    begun = draft(of, rule, **options)
    await ledger.accept(delivery(of), (Sighting(of, (begun,)),))
    return begun


# Accepting


async def test_a_first_firing_begins_one_remediation_for_each_rule(ledger: SqlLedger) -> None:
    """What was accepted is there, equal to what was drafted."""
    of = alert()

    accepted = await ledger.accept(*post(sighting(of, "cache", "second")))

    assert Accepted(started=("cache-a-120000", "second-a-120000")) == accepted
    assert draft(of, "cache") == (await ledger.load("cache-a-120000")).remediation
    assert draft(of, "second") == (await ledger.load("second-a-120000")).remediation


async def test_what_is_unknown_is_a_key_error(ledger: SqlLedger) -> None:
    """Loading what is not there says so."""
    with pytest.raises(KeyError, match="nothing"):
        await ledger.load("nothing")


async def test_repeats_begin_nothing(ledger: SqlLedger) -> None:
    """The same episode in the same body, another body and another alert's company begins nothing again."""
    first, other = sighting(alert("a"), "cache"), sighting(alert("b"), "cache")
    await ledger.accept(*post(first))

    again = await ledger.accept(*post(first))
    peer = await ledger.accept(delivery(first.alert)._replace(body=b"a peer's body"), (first,))
    company = await ledger.accept(*post(first, other))

    assert Accepted() == again
    assert Accepted() == peer
    assert Accepted(started=("cache-b-120000",)) == company


async def test_the_same_alert_twice_in_one_delivery_is_one_episode(ledger: SqlLedger) -> None:
    """A delivery that repeats itself begins one remediation."""
    one = sighting(alert(), "cache")

    assert Accepted(started=("cache-a-120000",)) == await ledger.accept(*post(one, one))
    assert 1 == len(await ledger.list())


async def test_a_rule_that_is_new_to_a_known_episode_begins(ledger: SqlLedger) -> None:
    """After a reload the repeat of a firing alert starts the rule that was added, and only that one."""
    of = alert()
    await ledger.accept(*post(sighting(of, "cache")))

    accepted = await ledger.accept(*post(sighting(of, "cache", "added")))

    assert Accepted(started=("added-a-120000",)) == accepted
    assert Accepted() == await ledger.accept(*post(sighting(of, "cache", "added")))


async def test_a_resolved_closes_the_episode_and_names_what_is_active(ledger: SqlLedger) -> None:
    """Only remediations that are not finished are named, and each resolved is told once."""
    of = alert()
    await ledger.accept(*post(sighting(of, "cache", "finished")))
    await ledger.write(ended((await ledger.load("finished-a-120000")).remediation), NOW)
    over = sighting(alert(over=True))

    accepted = await ledger.accept(*post(over, at=NOW + MINUTE))

    assert Accepted(resolved=("cache-a-120000",)) == accepted
    loaded = await ledger.load("cache-a-120000")
    assert loaded.resolved
    assert NOW + MINUTE == loaded.received_at
    assert () == await ledger.firing()
    assert Accepted() == await ledger.accept(*post(over))


async def test_begun_and_resolved_in_one_delivery(ledger: SqlLedger) -> None:
    """A delivery that has both states of an alert ends with the resolved one."""
    accepted = await ledger.accept(*post(sighting(alert(), "cache"), sighting(alert(over=True))))

    assert Accepted(("cache-a-120000",), ("cache-a-120000",)) == accepted
    assert (await ledger.load("cache-a-120000")).resolved
    assert () == await ledger.firing()


async def test_a_resolved_before_a_slow_peers_firing_wins(ledger: SqlLedger) -> None:
    """A firing of an episode that is over begins nothing, whether the episode is remembered or looked up."""
    await ledger.accept(*post(sighting(alert(over=True))))

    late = await ledger.accept(*post(sighting(alert(), "cache")))

    assert Accepted() == late
    assert () == await ledger.list()
    assert () == await ledger.firing()


async def test_a_new_start_is_a_new_episode(ledger: SqlLedger) -> None:
    """An alert that fires again after it was resolved is remediated again."""
    await ledger.accept(*post(sighting(alert(), "cache")))
    await ledger.accept(*post(sighting(alert(over=True))))

    accepted = await ledger.accept(*post(sighting(alert(starts_at=NOW + MINUTE), "cache")))

    assert Accepted(started=("cache-a-120100",)) == accepted


async def test_a_known_episode_is_heard_of_once_a_minute(ledger: SqlLedger) -> None:
    """`received_at` follows the repeats, but not each of them."""
    one = sighting(alert(), "cache")
    seen = []
    for after in (0 * SECOND, 59 * SECOND, 60 * SECOND, 119 * SECOND, 120 * SECOND):
        await ledger.accept(*post(one, at=NOW + after))
        seen.append((await ledger.load("cache-a-120000")).received_at - NOW)

    assert [0 * SECOND, 0 * SECOND, 60 * SECOND, 60 * SECOND, 120 * SECOND] == seen


async def test_firing_are_the_open_episodes(ledger: SqlLedger) -> None:
    """Alerts without a rule count too, the oldest of those with one name; resolved ones do not."""
    over = alert("over", starts_at=NOW - 2 * MINUTE, over=True)
    early, late = alert("early", starts_at=NOW - MINUTE), alert("late")
    await ledger.accept(*post(*map(sighting, (late, early, over))))

    (one,) = await ledger.firing()
    assert (early.labels["alertname"], NOW - MINUTE) == (one[0]["alertname"], one[1])


async def test_deliveries_are_kept_as_they_came(ledger: SqlLedger) -> None:
    """Every distinct body is there, compressed or not, rejected or not, oldest first."""
    wanted = [
        Delivery(b"{}", NOW, "10.0.0.1", rejected="alerts: a non-empty list was expected"),
        Delivery(b"\x00\xff" * 5_000, NOW + SECOND, "10.0.0.2"),
        delivery(alert(), at=NOW + MINUTE),
    ]
    for each in wanted:
        await ledger.accept(each)
    await ledger.accept(wanted[1])

    assert tuple(wanted) == await ledger.deliveries()
    assert tuple(wanted[:2]) == await ledger.deliveries(limit=2)


async def test_deliveries_of_one_episode(ledger: SqlLedger) -> None:
    """Of an episode, what named it: its first firing, its repeats and its end, and nothing else."""
    a, b = sighting(alert("a"), "cache"), sighting(alert("b"), "cache")
    over = sighting(alert("a", over=True))
    for sightings, after in (((b,), 0), ((a,), 1), ((a, b), 30), ((b,), 40), ((over,), 300), ((b,), 600)):
        await ledger.accept(*post(*sightings, at=NOW + after * MINUTE))

    found = await ledger.deliveries(episode=a.alert.episode)

    assert [1 * MINUTE, 30 * MINUTE, 300 * MINUTE] == [each.received_at - NOW for each in found]
    assert found[:1] == await ledger.deliveries(episode=a.alert.episode, limit=1)
    assert () == await ledger.deliveries(episode="unknown")


async def test_prune_removes_old_deliveries_and_never_the_journal(ledger: SqlLedger) -> None:
    """What was last received before then is gone; the same body is stored again afterwards."""
    old, kept = post(sighting(alert("a"), "cache")), delivery(alert("b"), at=NOW + MINUTE)
    await ledger.accept(*old)
    await ledger.accept(kept)

    assert 1 == await ledger.prune(NOW + MINUTE)
    assert (kept,) == await ledger.deliveries()
    assert ["received", "matched", "pruned"] == [entry.event.kind for entry in await ledger.journal()]
    await ledger.accept(*old)
    assert (kept, old[0]) == await ledger.deliveries()
    assert 0 == await ledger.prune(NOW)
    assert 3 == len(await ledger.journal())
    assert await ledger.verify() is None


async def test_one_entry_for_a_delivery_that_changed_something(ledger: SqlLedger) -> None:
    """`received` with its figures, `matched` for each remediation begun, and nothing for a repeat."""
    one, two = sighting(alert("a"), "cache"), sighting(alert("b"))
    await ledger.accept(*post(one, two))
    await ledger.accept(*post(one, two))
    await ledger.accept(*post(two))

    received, matched = await ledger.journal()

    assert ("received", "", NOW) == (received.event.kind, received.remediation, received.at)
    body = delivery(one.alert, two.alert).body
    expected = {"alerts": 2, "new": 2, "resolved": 0, "sha256": sha256(body).hexdigest()}
    assert expected == received.event.data
    assert ("matched", "cache-a-120000") == (matched.event.kind, matched.remediation)
    assert {
        "episode": one.alert.episode,
        "rule": "cache",
        "subject": "a",
        "system": "redis",
    } == matched.event.data
    assert await ledger.verify() is None


# Writing


async def test_write_moves_and_journals_together(ledger: SqlLedger) -> None:
    """The next version is returned and loaded; its events follow in order, under its name."""
    begun = await begin(ledger)
    waiting = replace(begun, pending=Command(Do.WAIT, until=NOW + MINUTE), reason="held")
    events = (Event("one", {"figures": (1, 2.5, None), "ü": "→"}), Event("two"))

    written = await ledger.write(Transition(waiting, events), NOW)

    assert replace(waiting, version=1) == written
    assert written == (await ledger.load(begun.id)).remediation
    told = await ledger.journal(remediation=begun.id, after=2)
    assert [(entry.event.kind, entry.event.data) for entry in told] == [
        ("one", {"figures": [1, 2.5, None], "ü": "→"}),
        ("two", {}),
    ]
    assert await ledger.verify() is None


async def test_a_plan_comes_back_with_its_digest(ledger: SqlLedger) -> None:
    """An approval names the digest: no number or nesting may change on the way through the database."""
    begun = await begin(ledger)
    effect = Effect(
        "redis.unlink_prefix",
        "seg: in db 0",
        {"prefix": "seg:", "limits": [1, 2.0, {"deep": None}]},
        "UNLINK 12,340 keys",
        before={"exists": True},
        figures={"keys": 12340, "bytes": 1.5e9},
        at_most={"keys": 13574, "bytes": 2e9, "ratio": 2.0},
    )
    steps = (PlannedStep("clear", effect.action, "cache", effect.params, (effect,), timeout=90 * SECOND),)
    plan = Plan("redis-clear-prefix", steps, NOW, ("look at the graph",))
    planned = replace(begun, phase=Phase.VERIFYING, plan=plan, results=(Result("done", captured={"n": 1}),))

    written = await ledger.write(Transition(planned), NOW)
    loaded = (await ledger.load(begun.id)).remediation

    assert written == loaded
    assert loaded.plan is not None
    assert plan.digest == loaded.plan.digest
    assert "12340" == str(loaded.plan.steps[0].effects[0].figures["keys"])


async def test_a_stale_write_changes_nothing(ledger: SqlLedger) -> None:
    """Of two that decided on the same version, the second is refused, its events and messages with it."""
    begun = await begin(ledger)
    await ledger.write(Transition(replace(begun, reason="first")), NOW)

    with pytest.raises(StaleWrite, match="cache-a-120000"):
        await ledger.write(Transition(replace(begun, reason="second"), (Event("no"),)), NOW, (CARD,))

    assert "first" == (await ledger.load(begun.id)).remediation.reason
    assert 2 == len(await ledger.journal())
    assert () == await ledger.outbox(NOW)


async def test_list_and_unfinished(ledger: SqlLedger) -> None:
    """The newest first, by phase and system; what is not final, oldest first."""
    names = ("a", "b", "c")
    for minutes, name in enumerate(names):
        await begin(
            ledger, name, created_at=NOW + minutes * MINUTE, system="redis" if name < "c" else "docker"
        )
    await ledger.write(ended((await ledger.load("cache-b-120000")).remediation), NOW)

    async def listed(**chosen: Any) -> list[str]:
        return [found.subject for found in await ledger.list(**chosen)]

    assert ["c", "b", "a"] == await listed()
    assert ["c", "b"] == await listed(limit=2)
    assert ["b"] == await listed(phases=[Phase.REMEDIATED])
    assert ["b", "a"] == await listed(system="redis")
    assert ["a", "c"] == [found.subject for found in await ledger.unfinished()]


# Reserving


async def test_reserve_claims_the_subject_until_the_end(ledger: SqlLedger) -> None:
    """While one holds a subject, another is held off; when it ends, the other rests for the cooldown."""
    first = await begin(ledger, "a", "one", subject="shared")
    second = await begin(ledger, "b", "two", subject="shared")

    holder = await reserve(ledger, first)
    held_off = await reserve(ledger, second)
    await ledger.write(ended(holder), NOW)
    free = await reserve(ledger, held_off, NOW + MINUTE)

    assert (Phase.JUDGED, 1) == (holder.phase, holder.version)
    assert (Phase.MATCHED, f"shared is held by {first.id}") == (held_off.phase, held_off.reason)
    assert Phase.JUDGED is free.phase


@pytest.mark.parametrize(
    ("cap", "expected"),
    [
        pytest.param(Mode.SUGGEST, Phase.JUDGED, id="a-dry-run-claims-nothing"),
        pytest.param(Mode.APPROVE, Phase.MATCHED, id="what-may-act-claims"),
        pytest.param(Mode.AUTO, Phase.MATCHED, id="what-acts-claims"),
    ],
)
async def test_only_what_acts_claims(ledger: SqlLedger, cap: Mode, expected: Phase) -> None:
    """A dry run stands in nobody's way."""
    first = await begin(ledger, "a", "one", subject="shared", cap=cap)
    second = await begin(ledger, "b", "two", subject="shared")
    await reserve(ledger, first)

    assert expected is (await reserve(ledger, second)).phase


async def test_reserving_again_keeps_its_own_claim(ledger: SqlLedger) -> None:
    """The next rung reserves the subject that the remediation holds already."""
    begun = await begin(ledger)
    holder = await reserve(ledger, begun)
    climbed = await ledger.write(Transition(replace(holder, phase=Phase.MATCHED)), NOW)

    again = await reserve(ledger, climbed)

    assert Phase.JUDGED is again.phase


async def test_a_reserve_that_is_stale_counts_nothing(ledger: SqlLedger) -> None:
    """A doubled wake reserves once."""
    begun = await begin(ledger)
    await reserve(ledger, begun)

    with pytest.raises(StaleWrite):
        await reserve(ledger, begun)

    other = await begin(ledger, "b", subject="elsewhere")
    assert 1 == len((await ledger.facts(other, facts(other))).runs)


async def test_the_facts_count_the_others(ledger: SqlLedger) -> None:
    """Runs, rest, activity and claims are those of others: of the rule, the subject and the system."""
    past = await begin(ledger, "past", subject="s")
    running = await begin(ledger, "running", "other-rule", subject="s")
    elsewhere = await begin(ledger, "elsewhere", "third", system="docker", subject="t")
    asked = await begin(ledger, "asked", subject="s")
    done = await reserve(ledger, past, NOW - 30 * MINUTE)
    await ledger.write(ended(done, NOW - 20 * MINUTE), NOW - 20 * MINUTE)
    for each in (running, elsewhere):
        await reserve(ledger, each, NOW - 5 * MINUTE)

    told = await ledger.facts(asked, facts(asked))

    assert (NOW - 30 * MINUTE,) == told.runs
    assert NOW - 20 * MINUTE == told.last_finished_at
    assert 1 == told.active
    assert running.id == told.claimed_by
    later = await ledger.facts(asked, facts(asked, NOW + 30 * MINUTE))
    assert () == later.runs
    assert NOW - 20 * MINUTE == later.last_finished_at


async def test_what_was_never_reserved_is_no_run(ledger: SqlLedger) -> None:
    """One that ended before it was judged leaves no cooldown and no run behind."""
    ended_early = await begin(ledger, "a", subject="s")
    asked = await begin(ledger, "b", subject="s")
    await ledger.write(ended(ended_early), NOW)

    told = await ledger.facts(asked, facts(asked))

    assert ((), None, 0, "") == (told.runs, told.last_finished_at, told.active, told.claimed_by)


async def test_the_rate_limit_is_counted_where_the_run_is_reserved(ledger: SqlLedger) -> None:
    """Of three at once, two are let through when two are allowed."""
    limits = Limits(rate=2, rate_window=60 * MINUTE, concurrency=10)
    begun = [await begin(ledger, name, limits=limits) for name in ("a", "b", "c")]

    phases = [(await reserve(ledger, each)).phase for each in begun]

    assert [Phase.JUDGED, Phase.JUDGED, Phase.MATCHED] == phases


async def test_the_facts_know_the_episode(ledger: SqlLedger) -> None:
    """Resolved and received are the episode's, whatever the caller believed."""
    begun = await begin(ledger)
    await ledger.accept(*post(sighting(alert(over=True)), at=NOW + MINUTE))

    told = await ledger.facts(begun, facts(begun, NOW + 2 * MINUTE))

    assert (True, NOW + MINUTE) == (told.resolved, told.received_at)


# Switches


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        pytest.param("", "deploying", id="everything"),
        pytest.param("system=redis", "deploying", id="its-system"),
        pytest.param("rule=cache", "deploying", id="its-rule"),
        pytest.param("system=docker", "", id="another-system"),
        pytest.param("rule=other", "", id="another-rule"),
    ],
)
@pytest.mark.parametrize("name", ["pause", "kill"])
async def test_switches_bear_on_their_scope(ledger: SqlLedger, name: str, scope: str, expected: str) -> None:
    """A switch is told to what it covers, with its reason, until it is turned off."""
    begun = await begin(ledger)
    switch = Switch(name, scope, "deploying", "anna", NOW)
    await ledger.switch(switch)

    told = await ledger.facts(begun, facts(begun))

    assert {"pause": "", "kill": "", name: expected} == {"pause": told.paused, "kill": told.killed}
    assert (switch,) == await ledger.switches()
    assert await ledger.unswitch(name, scope, "ben", NOW + MINUTE)
    assert not await ledger.unswitch(name, scope, "ben", NOW + MINUTE)
    assert () == await ledger.switches()
    assert ["switched_on", "switched_off"] == [entry.event.kind for entry in await ledger.journal(after=2)]


async def test_a_switch_without_a_reason_is_still_on(ledger: SqlLedger) -> None:
    """An empty reason does not read as "off"; turning on twice leaves one switch."""
    begun = await begin(ledger)
    for _ in range(2):
        await ledger.switch(Switch("pause", "", "", "anna", NOW))

    assert "by anna" == (await ledger.facts(begun, facts(begun))).paused
    assert 1 == len(await ledger.switches())


# Outbox


async def test_messages_wait_until_they_are_sent(ledger: SqlLedger) -> None:
    """A message is due at once, after a failure later, and never after it was delivered."""
    begun = await begin(ledger)
    await ledger.write(Transition(begun), NOW, (Message("escalation", {"why": "ü"}),))

    (due,) = await ledger.outbox(NOW)
    assert (Message("escalation", {"why": "ü"}), 0, "", 1) == (
        due.message,
        due.attempts,
        due.ref,
        due.remediation.version,
    )
    await ledger.unsent(due.id, NOW + MINUTE, "rate limited")
    assert () == await ledger.outbox(NOW)
    (again,) = await ledger.outbox(NOW + MINUTE)
    assert (due.id, 1) == (again.id, again.attempts)
    await ledger.sent(again.id, "C1/1.2")
    assert () == await ledger.outbox(NOW + 60 * MINUTE)


async def test_one_undelivered_card_and_its_reference(ledger: SqlLedger) -> None:
    """Cards of one remediation are coalesced; the next one knows where the last was posted."""
    begun = await begin(ledger)
    other = await begin(ledger, "b")
    moved = await ledger.write(Transition(begun), NOW, (CARD, Message("escalation")))
    await ledger.write(Transition(other), NOW, (CARD,))
    await ledger.write(Transition(moved), NOW, (CARD,))

    due = await ledger.outbox(NOW)
    assert [(out.message.kind, out.remediation.subject, out.remediation.version) for out in due] == [
        ("escalation", "a", 2),
        ("card", "b", 1),
        ("card", "a", 2),
    ]
    await ledger.sent(due[2].id, "C1/1.2")
    await ledger.write(Transition(due[2].remediation), NOW, (CARD,))
    assert ["C1/1.2"] == [out.ref for out in await ledger.outbox(NOW) if out.message == CARD and out.ref]


async def test_a_card_replaced_on_its_way_leaves_its_reference(ledger: SqlLedger) -> None:
    """The newer card updates what the older one, still being posted, became; it is not posted beside it."""
    begun = await begin(ledger)
    moved = await ledger.write(Transition(begun), NOW, (CARD,))
    (on_its_way,) = await ledger.outbox(NOW)
    await ledger.write(Transition(moved), NOW, (CARD,))

    await ledger.sent(on_its_way.id, "C1/1.2")

    (newer,) = await ledger.outbox(NOW)
    assert ("C1/1.2", 2) == (newer.ref, newer.remediation.version)
    assert on_its_way.id != newer.id


async def test_a_new_card_does_not_break_into_a_back_off(ledger: SqlLedger) -> None:
    """Whether it came before or after the failure, the newer card waits as long as the older would have."""
    begun = await begin(ledger)
    moved = await ledger.write(Transition(begun), NOW, (CARD,))
    (first,) = await ledger.outbox(NOW)
    moved = await ledger.write(Transition(moved), NOW, (CARD,))
    await ledger.unsent(first.id, NOW + MINUTE, "rate limited")
    await ledger.write(Transition(moved), NOW, (CARD,))

    assert () == await ledger.outbox(NOW + 59 * SECOND)
    assert [(1, 3)] == [(out.attempts, out.remediation.version) for out in await ledger.outbox(NOW + MINUTE)]


async def test_the_outbox_gives_a_few_at_a_time(ledger: SqlLedger) -> None:
    """Oldest first, as many as were asked for."""
    begun = await begin(ledger)
    await ledger.write(Transition(begun), NOW, tuple(Message(str(n)) for n in range(5)))

    assert ["0", "1"] == [out.message.kind for out in await ledger.outbox(NOW, limit=2)]


# Notes and pages


async def test_notes_and_pages_of_the_journal(ledger: SqlLedger) -> None:
    """Notes are entries like others, and the journal is read in pages."""
    for n in range(5):
        await ledger.note(
            Event("reloaded", {"n": n}), NOW + n * timedelta(microseconds=1), "r" if n % 2 else ""
        )

    pages = [await ledger.journal(after=after, limit=2) for after in (0, 2, 4, 6)]

    assert [[1, 2], [3, 4], [5], []] == [[entry.seq for entry in page] for page in pages]
    assert [2, 4] == [entry.seq for entry in await ledger.journal(remediation="r")]
    assert NOW + timedelta(microseconds=1) == pages[0][1].at
    assert (5, pages[2][0].hash) == await ledger.head()
    assert await ledger.verify() is None


async def test_a_closed_ledger_is_unavailable(ledger: SqlLedger) -> None:
    """After close every call says so, and closing again does no harm."""
    await ledger.close()

    with pytest.raises(LedgerUnavailable, match="closed"):
        await ledger.note(Event("late"), NOW)
    with pytest.raises(LedgerUnavailable, match="closed"):
        await ledger.list()
    await ledger.close()
