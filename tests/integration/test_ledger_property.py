"""Whatever comes in whatever order, a rule remediates an episode once, and only while it is not over."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.adapters.ledger import SqlLedger
from remediator.adapters.ledger.bodies import decode, encode, snapshot_of
from remediator.domain.alerts import Alert
from remediator.domain.guards import Limits
from remediator.domain.playbooks import Choice
from remediator.domain.rules import Mode, Rung
from tests.integration.ledger_kit import MINUTE, NOW, StillClock, alert, delivery, draft, sighting

Seen = tuple[str, int, bool, tuple[str, ...]]
"""An alert's name, the minute it began to fire, whether it is over, and the rules that match it."""

alerts = st.tuples(
    st.sampled_from("abc"),
    st.integers(0, 1),
    st.booleans(),
    st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=3, unique=True).map(tuple),
)
posts = st.lists(st.lists(alerts, min_size=1, max_size=4), max_size=12)
"""Deliveries, each of some alerts."""


@dataclass
class Model:
    """What should be known: which episodes are over, and which (rule, episode) were begun."""

    over: set[str] = field(default_factory=set)
    begun: set[tuple[str, str]] = field(default_factory=set)

    def hear(self, of: Alert, rules: tuple[str, ...], *, over: bool) -> set[tuple[str, str]]:
        """One alert; the (rule, episode) it begins."""
        if over:
            self.over.add(of.episode)
        if of.episode in self.over:
            return set()
        new = {(rule, of.episode) for rule in rules} - self.begun
        self.begun |= new
        return new


def made(seen: Seen) -> Alert:
    """The alert that was drawn."""
    name, minute, over, _ = seen
    return alert(name, starts_at=NOW + minute * MINUTE, over=over)


@settings(max_examples=60, deadline=None)
@given(posts=posts, forget=st.sets(st.integers(0, 11)))
def test_in_order_the_ledger_does_what_the_model_does(posts: list[list[Seen]], forget: set[int]) -> None:
    """Each delivery begins exactly what the model begins, also where what is remembered was lost before it."""

    async def play() -> None:
        ledger, model = SqlLedger.open("sqlite://", StillClock()), Model()
        for n, seen in enumerate(posts):
            if n in forget:
                # A prune forgets what is remembered of episodes; here it removes nothing else.
                await ledger.prune(NOW + (n + 1) * MINUTE)
            expected = {new for each in seen for new in model.hear(made(each), each[3], over=each[2])}
            sightings = [sighting(made(each), *each[3]) for each in seen]
            accepted = await ledger.accept(
                delivery(*(s.alert for s in sightings), at=NOW + n * MINUTE), sightings
            )
            begun = {
                (id_.split("-")[0], (await ledger.load(id_)).remediation.episode) for id_ in accepted.started
            }
            assert expected == begun
        listed = [(each.rule, each.episode) for each in await ledger.list(limit=1000)]
        assert sorted(model.begun) == sorted(listed)
        sent = [made(each) for seen in posts for each in seen]
        open_ = {alert.labels["alertname"] for alert in sent if alert.episode not in model.over}
        assert open_ == {labels["alertname"] for labels, _ in await ledger.firing()}
        assert await ledger.verify() is None
        await ledger.close()

    asyncio.run(play())


@settings(max_examples=40, deadline=None)
@given(posts=posts)
def test_at_once_nothing_begins_twice(posts: list[list[Seen]]) -> None:
    """The same deliveries all at the same time, each twice: one remediation for each (rule, episode) at most."""

    async def play() -> None:
        ledger = SqlLedger.open("sqlite://", StillClock())
        accepts = []
        for n, seen in enumerate(posts * 2):
            sightings = [sighting(made(each), *each[3]) for each in seen]
            body = delivery(*(s.alert for s in sightings))._replace(body=str(n).encode())
            accepts.append(ledger.accept(body, sightings))
        answers = await asyncio.gather(*accepts)

        started = [id_ for answer in answers for id_ in answer.started]
        assert len(set(started)) == len(started)
        listed = {(each.rule, each.episode): each.id for each in await ledger.list(limit=1000)}
        assert sorted(listed.values()) == sorted(started)
        over = {made(each).episode for seen in posts for each in seen if each[2]}
        wanted = {
            (rule, made(each).episode) for seen in posts for each in seen if not each[2] for rule in each[3]
        }
        assert {(r, e) for r, e in wanted if e not in over} <= listed.keys() <= wanted
        await ledger.close()

    asyncio.run(play())


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("$choice"), inner, max_size=3)
    ),
    max_leaves=8,
)
choices = st.builds(Choice, st.text(), st.dictionaries(st.text(), values, max_size=3))
durations = st.timedeltas(timedelta(0), timedelta(days=400))


@settings(max_examples=150, deadline=None)
@given(
    arguments=st.dictionaries(st.text(), values | choices, max_size=4),
    cooldown=durations,
    reason=st.text(),
    mode=st.sampled_from(list(Mode)),
)
def test_a_remediation_comes_back_as_it_was(
    arguments: dict[str, object], cooldown: timedelta, reason: str, mode: Mode
) -> None:
    """Arguments of any shape, choices among them, durations and texts are read as they were written."""
    limits, ladder = Limits(cooldown=cooldown), (Rung("playbook", arguments, mode),)
    whole = replace(draft(alert(), limits=limits, ladder=ladder), reason=reason)

    assert whole == decode(encode(whole), snapshot_of(whole).body)
