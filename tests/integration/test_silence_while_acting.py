"""A playbook that silences its own alert, acts, and lifts the silence: with a real Prometheus and Alertmanager."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from remediator.actions.alertmanager import CREATED_BY, AlertmanagerConnection, Lift, Silence
from remediator.adapters.rulebook import RuleBook
from remediator.adapters.world import HttpWorld
from remediator.assembly import Parts, assemble
from remediator.domain.plans import Effect, Result
from remediator.domain.playbooks import Playbook, Step
from remediator.domain.remediations import Phase
from remediator.domain.rules import RuleTable
from remediator.errors import PermanentFailure
from remediator.testing import FakeAction, FakeActions, make_alert
from tests.support.alertmanager import AlertmanagerServer
from tests.support.prometheus import PrometheusServer
from tests.support.waiting import eventually
from tests.unit.story import MINUTE, RUNG, STEP, VERIFY, Story, rule

ALERT = make_alert()
LABELS = dict(ALERT.labels)
ARGUMENTS = {"connection": "am", "labels": LABELS}
QUIETLY = Playbook(
    "quietly",
    "Set the number and call nobody",
    "low",
    (
        Step("silence", "alertmanager.silence", {**ARGUMENTS, "minutes": 10, "reason": "while it is set"}),
        STEP,
        Step("lift", "alertmanager.lift", ARGUMENTS),
    ),
)
FINE, STILL_BAD = "vector(1)", "vector(1) > 1"


@dataclass
class WatchedAction(FakeAction):
    """Sets a number, and tells the test when it does and when it takes it back."""

    watch: Callable[[], Any] = field(default=lambda: None)

    async def apply(self, effect: Effect) -> Result:
        """Set it, under the test's eyes."""
        await self.watch()
        return await super().apply(effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set it back, under the test's eyes."""
        await self.watch()
        return await super().undo(effect, result)


class QuietStory(Story):
    """The service in memory, with the real actions on Alertmanager and real answers about the world."""

    def __init__(self, alertmanager: AlertmanagerServer, prometheus: PrometheusServer, verify: str) -> None:
        rung = replace(RUNG, playbook="quietly", verify=replace(VERIFY, expr=verify))
        super().__init__(rules=(rule("rule", f'alertname="{ALERT.name}"', rung),), playbooks=(QUIETLY,))
        self.alertmanager, self.asked = alertmanager, HttpWorld(prometheus.url, alertmanager.url)
        self.watched = self.action = WatchedAction(watch=self.look)
        self.silenced: list[bool] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def look(self) -> None:
        """Whether the alert is silenced at this moment."""
        (alert,) = [one for one in await self.alertmanager.alerts() if one["labels"] == LABELS]
        self.silenced.append(bool(alert["status"]["silencedBy"]))

    def assemble(self) -> Parts:
        """As the story does, with the outside that is real."""
        connection = AlertmanagerConnection(
            kind="alertmanager", url=self.alertmanager.url, labels={"system": LABELS["system"]}
        )
        real: Any = {one.kind: one(connection) for one in (Silence, Lift)}
        return assemble(
            RuleBook(RuleTable(self.rules), {}, {one.name: one for one in self.playbooks}),
            mode=self.mode,
            ledger=self.ledger,
            clock=self.clock,
            world=self.asked,
            actions=FakeActions(self.action, real),
            messenger=self.messenger,
        )

    async def ours(self) -> list[dict[str, Any]]:
        """The silences under our name."""
        return [one for one in await self.alertmanager.silences() if one["createdBy"] == CREATED_BY]


@pytest.fixture
async def stories(
    tmp_path: Path,
    alertmanager_factory: Callable[..., AlertmanagerServer],
    prometheus_server_factory: Callable[..., PrometheusServer],
) -> AsyncIterator[Callable[[str], QuietStory]]:
    """Make a story whose alert fires in a real Prometheus and Alertmanager."""
    rules = tmp_path / "rules.yml"
    labels = {name: value for name, value in LABELS.items() if name != "alertname"}
    firing = {"alert": ALERT.name, "expr": "vector(1)", "labels": labels}
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "interval": "1s", "rules": [firing]}]}))
    prometheus = prometheus_server_factory({"global": {"evaluation_interval": "1s"}}, rule_files=[rules])
    alertmanager = alertmanager_factory({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]})
    await prometheus.until("ALERTS", lambda found: len(found) == 1)
    await alertmanager.post_alerts([{"labels": LABELS}])
    made: list[QuietStory] = []

    def make(verify: str) -> QuietStory:
        made.append(QuietStory(alertmanager, prometheus, verify))
        return made[-1]

    yield make
    for story in made:
        await story.asked.close()


async def test_it_silences_its_own_alert_acts_and_lifts_the_silence(
    stories: Callable[[str], QuietStory],
) -> None:
    """Its own silence does not hold it back; while it acts the alert is silenced, afterwards it is not; and the
    silence names the remediation.
    """
    async with stories(FINE) as story:
        await story.post(ALERT)
        assert "" == await story.vote()
        await story.wait(10 * MINUTE)

        remediation = await story.only()
        assert (Phase.REMEDIATED, [True]) == (remediation.phase, story.silenced)
        (silence,) = await story.ours()
        assert "expired" == silence["status"]["state"]
        assert silence["comment"].startswith(f"remediator {remediation.id} ")
        assert silence["comment"].endswith(": while it is set")


async def test_a_step_that_fails_lifts_the_silence(stories: Callable[[str], QuietStory]) -> None:
    """People are called, so they hear the alert again too."""
    async with stories(FINE) as story:
        story.action.fails = [PermanentFailure("it is stuck")]
        await story.post(ALERT)
        await story.vote()

        remediation = await story.only()
        assert (Phase.FAILED, [True]) == (remediation.phase, story.silenced)
        assert ["expired"] == [one["status"]["state"] for one in await story.ours()]


async def test_what_did_not_help_is_undone_in_silence(stories: Callable[[str], QuietStory]) -> None:
    """The undo goes back through all steps: silenced again, set back, and heard again."""
    async with stories(STILL_BAD) as story:
        await story.post(ALERT)
        await story.vote()
        await story.wait(40 * MINUTE)

        remediation = await story.only()
        assert Phase.INEFFECTIVE is remediation.phase
        assert (0, [True, True]) == (story.action.value, story.silenced)
        assert ["expired", "expired"] == [one["status"]["state"] for one in await story.ours()]


async def test_a_persons_silence_in_between_stops_the_next_step(
    stories: Callable[[str], QuietStory],
) -> None:
    """Somebody silences the alert while we act: nothing more is begun, what was done is undone, and that silence
    stays.
    """
    async with stories(FINE) as story:
        theirs: list[str] = []

        async def intervene() -> None:
            if not theirs:
                told: dict[str, Any] = {**LABELS, "comment": "hands off"}
                theirs.append(await story.alertmanager.silence(**told))

                async def known() -> bool:
                    return theirs[0] in (await story.asked.muted(LABELS))[0]

                await eventually(known, within=10, what="the silence to be known")

        story.watched.watch = intervene
        await story.post(ALERT)
        await story.vote()

        remediation = await story.only()
        assert Phase.FAILED is remediation.phase
        assert f"stopped before step 3: silenced by {theirs[0]}" == remediation.reason
        assert 0 == story.action.value
        states = {one["id"]: one["status"]["state"] for one in await story.alertmanager.silences()}
        assert "active" == states.pop(theirs[0])
        assert ["expired"] == list(states.values())


async def test_a_persons_silence_holds_it_from_the_start(stories: Callable[[str], QuietStory]) -> None:
    """Nothing is planned, and no silence of ours is made."""
    async with stories(FINE) as story:
        theirs = await story.alertmanager.silence(comment="maintenance", **LABELS)  # type: ignore[arg-type]

        async def known() -> bool:
            return theirs in (await story.asked.muted(LABELS))[0]

        await eventually(known, within=10, what="the silence to be known")
        await story.post(ALERT)

        remediation = await story.only()
        assert (Phase.MATCHED, f"silenced by {theirs}") == (remediation.phase, remediation.reason)
        assert [] == await story.ours()
