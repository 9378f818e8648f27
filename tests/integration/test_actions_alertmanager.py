"""The contract of alertmanager.silence, alertmanager.lift and prometheus.snapshot_query, on the real servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.actions.alertmanager import CREATED_BY, AlertmanagerConnection, Lift, Silence, SilenceParams
from remediator.actions.prometheus import SnapshotQuery
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused, TemporaryFailure
from tests.support import call_cases
from tests.support.alertmanager import AlertmanagerServer
from tests.support.call_cases import Case
from tests.support.cutline import CutLine, When
from tests.support.prometheus import PrometheusServer
from tests.support.rest import call

contract = pytest.mark.contract
KIND, LIFT, QUERY = "alertmanager.silence", "alertmanager.lift", "prometheus.snapshot_query"
LABELS = {"alertname": "ApiDown", "system": "demo", "instance": 'a"b\\c'}


@pytest.fixture
async def server(alertmanager_factory: Callable[..., AlertmanagerServer]) -> AlertmanagerServer:
    """An Alertmanager with our alert and others, and somebody's silence."""
    made = alertmanager_factory({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]})
    await _fire(made)
    await made.silence(alertname="Other", system="demo")
    return made


async def _fire(server: AlertmanagerServer) -> None:
    for labels in (LABELS, {**LABELS, "instance": "b"}, {**LABELS, "alertname": "Other"}):
        await server.fire(**labels)  # type: ignore[arg-type]


@pytest.fixture
def case(server: AlertmanagerServer) -> Case:
    """A silence of just that alert."""

    async def look() -> Any:
        muted = {one["fingerprint"]: bool(one["status"]["silencedBy"]) for one in await server.alerts()}
        held = [one for one in await server.silences() if one["status"]["state"] == "active"]
        return muted, sorted((one["createdBy"], len(one["matchers"])) for one in held)

    def done(before: Any, after: Any) -> bool:
        changed = [key for key in before[0] if before[0][key] != after[0][key]]
        return len(changed) == 1 and after[1] == sorted([*before[1], (CREATED_BY, 3)])

    async def spoil() -> None:
        await server.resolve(**LABELS)

    return Case(
        action=Silence,
        port=server.port,
        settings=lambda url: {
            "kind": "alertmanager",
            "url": url,
            "labels": {"system": "demo"},
            "max_minutes": 20,
        },
        params={"labels": LABELS, "minutes": 10, "reason": "restart of the API", "remediation": "r1"},
        look=look,
        done=done,
        spoil=spoil,
        hostile=(
            {"labels": {}},
            {"labels": {"alertname": "ApiDown"}},
            {"labels": {"system": "demo", "instance": "b"}},
            {"labels": {"alertname": "ApiDown", "system": "demo"}},
            {"labels": {"alertname": "ApiDown", "system": "another"}},
            {"labels": {**LABELS, "instance": ".*"}},
            {"labels": {**LABELS, "instance": ""}},
            {"labels": {**LABELS, "instance": "a\nb"}},
            {"labels": {**LABELS, "../x": "a"}},
            {"minutes": 0},
            {"minutes": 21},
            {"minutes": 10**6},
            {"max_alerts": 0},
            {"reason": "x\ny"},
            {"remediation": "r1 r2"},
            {"remediation": "r1\n"},
            {"url": "http://evil.example"},
        ),
        trigger=b"POST /api/v2/silences",
        undoes=("DELETE /api/v2/silence/{id}",),
    )


@contract(KIND, "plan")
async def test_a_plan_changes_nothing(case: Case) -> None:
    """It tells how many alerts for how long."""
    await call_cases.check_plan(case)


@contract(KIND, "apply")
async def test_apply_silences_just_that_alert(case: Case, server: AlertmanagerServer) -> None:
    """One alert of three is silenced; our name and reference stand in the silence, and its end is bounded."""
    await call_cases.check_apply(case)
    ours = [one for one in await server.silences() if one["createdBy"] == CREATED_BY]

    assert 1 == len(ours)
    assert ours[0]["comment"].startswith("remediator r1 ")
    assert ours[0]["comment"].endswith(": restart of the API")
    assert all(one["isEqual"] and not one["isRegex"] for one in ours[0]["matchers"])


@contract(KIND, "reapply")
async def test_a_second_apply_does_nothing(case: Case) -> None:
    """There is one silence."""
    await call_cases.check_reapply(case)


@contract(KIND, "stale")
async def test_a_stale_plan_is_refused(case: Case) -> None:
    """Where the alert is over, nothing is silenced."""
    await call_cases.check_stale(case)


@contract(KIND, "undo")
async def test_undo_expires_it(case: Case) -> None:
    """The alert is heard again; somebody's own silence stays; and the old effect is not applied once more."""
    await call_cases.check_undo(case)


async def test_an_expired_silence_is_not_made_again(case: Case) -> None:
    """Once it was undone, the effect of then is stale; a new plan is another one, and one that holds is enough."""
    async with case.acting() as action:
        effect = await case.planned(action)
        await action.undo(effect, await action.apply(effect))
        with pytest.raises(Drifted):
            await action.apply(effect)
        again = await case.planned(action)
        await action.apply(again)
        with pytest.raises(NothingSelected, match="already"):
            await case.planned(action)

    assert effect.after != again.after


async def test_it_covers_no_more_alerts_than_allowed(case: Case) -> None:
    """Two alerts are refused where one is allowed, and told where two are."""
    both = {"alertname": "ApiDown", "system": "demo"}
    async with case.acting() as action:
        with pytest.raises(Refused, match="covers 2 alerts"):
            await case.planned(action, labels=both)
        assert 2 == (await case.planned(action, labels=both, max_alerts=2)).figures["alerts"]


@contract(KIND, "hostile")
async def test_hostile_parameters_are_refused(case: Case) -> None:
    """No pattern, no other system, no longer than allowed."""
    await call_cases.check_hostile(case)


@contract(KIND, "dies")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_is_found_out(case: Case, when: When) -> None:
    """The outcome is unknown, a second look tells, and there is one silence in all."""
    await call_cases.check_lost(case, when)


@contract(KIND, "dies")
async def test_an_alertmanager_that_dies(case: Case, server: AlertmanagerServer) -> None:
    """Killed at the change the outcome is unknown; while it is down nothing is tried."""
    async with CutLine(case.port, trigger=case.trigger, when="before", at_cut=server.kill) as line:
        async with case.acting() as direct:
            effect = await case.planned(direct)
        async with case.acting(f"http://127.0.0.1:{line.port}") as action:
            with pytest.raises(OutcomeUnknown):
                await action.apply(effect)
    async with case.acting() as action:
        with pytest.raises(TemporaryFailure):
            await action.apply(effect)
        server.start()
        await _fire(server)
        assert (await action.apply(effect)).changed


@contract(KIND, "privilege")
async def test_the_printed_calls_are_enough(case: Case, tmp_path: Path) -> None:
    """Behind a proxy that lets only the printed calls with the token through; one less is not enough."""
    await call_cases.check_privilege(case, tmp_path)


async def _silenced(server: AlertmanagerServer, remediation: str) -> None:
    """A remediation silences the alert."""
    connection = AlertmanagerConnection(kind="alertmanager", url=server.url, labels={"system": "demo"})
    action = Silence(connection)
    params = SilenceParams(connection="it", labels=LABELS, minutes=10, remediation=remediation)
    (effect,) = action.plan(params, await action.observe(params))
    assert (await action.apply(effect)).changed


@pytest.fixture
async def lift(server: AlertmanagerServer) -> Case:
    """Our silence of one alert, beside a person's with the same labels and comment on another alert."""
    await _silenced(server, "r1")
    (own,) = [one for one in await server.silences() if one["createdBy"] == CREATED_BY]
    await server.silence(comment=own["comment"], **{**LABELS, "instance": "b"})  # type: ignore[arg-type]

    async def look() -> Any:
        muted = {one["fingerprint"]: bool(one["status"]["silencedBy"]) for one in await server.alerts()}
        held = [one for one in await server.silences() if one["status"]["state"] == "active"]
        return muted, sorted((one["createdBy"], one["endsAt"], one["comment"]) for one in held)

    def done(before: Any, after: Any) -> bool:
        changed = [key for key in before[0] if before[0][key] != after[0][key]]
        left = [one for one in before[1] if one[0] != CREATED_BY]
        return len(changed) == 1 and len(before[1]) == 3 and after[1] == left

    async def spoil() -> None:
        now = datetime.now(UTC)
        second = {key: own[key] for key in ("matchers", "createdBy", "comment")}
        times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(minutes=5)).isoformat()}
        await call(f"{server.url}/api/v2/silences", method="POST", body={**second, **times})

    return Case(
        action=Lift,
        port=server.port,
        settings=lambda url: {"kind": "alertmanager", "url": url, "labels": {"system": "demo"}},
        params={"labels": LABELS, "remediation": "r1"},
        look=look,
        done=done,
        spoil=spoil,
        hostile=(
            {"labels": {}},
            {"labels": {"alertname": "ApiDown"}},
            {"labels": {"system": "demo", "instance": "b"}},
            {"labels": {"alertname": "ApiDown", "system": "another"}},
            {"labels": {**LABELS, "instance": "a\nb"}},
            {"remediation": ""},
            {"remediation": ".*"},
            {"remediation": "r1 r2"},
            {"minutes": 1},
            {"silence": "../silences"},
        ),
        trigger=b"DELETE /api/v2/silence/",
        undoes=("POST /api/v2/silences",),
    )


@contract(LIFT, "plan")
async def test_a_lift_is_planned(lift: Case) -> None:
    """It changes nothing, and may be planned before there is a silence."""
    await call_cases.check_plan(lift)
    async with lift.acting() as action:
        effect = await lift.planned(action, remediation="r2")
        assert 0 == effect.figures["silences"]
        assert not (await action.apply(effect)).changed


@contract(LIFT, "apply")
async def test_lift_ends_our_silence_alone(lift: Case) -> None:
    """The alert is heard again; the other silences stay."""
    await call_cases.check_apply(lift)


async def test_another_remediations_silence_is_not_lifted(lift: Case) -> None:
    """Not even for the same labels."""
    before = await lift.look()
    async with lift.acting() as action:
        assert not (await action.apply(await lift.planned(action, remediation="r"))).changed

    assert before == await lift.look()


@contract(LIFT, "reapply")
async def test_a_second_lift_does_nothing(lift: Case) -> None:
    """Nothing is left to lift."""
    await call_cases.check_reapply(lift)


@contract(LIFT, "stale")
async def test_more_silences_than_planned_on_are_refused(lift: Case) -> None:
    """A second one in our name for the same labels was not made by this plan."""
    await call_cases.check_stale(lift)


@contract(LIFT, "undo")
async def test_a_lifted_silence_comes_back_until_its_end(lift: Case) -> None:
    """The same alert is silenced again, with the same comment and the same end."""
    await call_cases.check_undo(lift)


@contract(LIFT, "hostile")
async def test_hostile_lifts_are_refused(lift: Case) -> None:
    """No pattern, no other system, no id, nobody's behalf."""
    await call_cases.check_hostile(lift)


@contract(LIFT, "dies")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_lost_answer_of_a_lift_is_found_out(lift: Case, when: When) -> None:
    """The outcome is unknown, a second look tells, and the silence is gone in the end."""
    await call_cases.check_lost(lift, when)


@contract(LIFT, "privilege")
async def test_the_printed_calls_lift(lift: Case, tmp_path: Path) -> None:
    """Behind a proxy that lets only the printed calls with the token through; one less is not enough."""
    await call_cases.check_privilege(lift, tmp_path)


@pytest.fixture
def query(prometheus_server_factory: Callable[..., PrometheusServer]) -> Case:
    """Two named queries."""
    server = prometheus_server_factory({"global": {"scrape_interval": "1s"}})

    async def look() -> Any:
        return await server.query("vector(1)")

    async def spoil() -> None:
        raise AssertionError("queries have a test of their own for that")

    return Case(
        action=SnapshotQuery,
        port=server.port,
        settings=lambda url: {
            "kind": "prometheus",
            "url": url,
            "queries": {"one": "vector(1)", "none": "absent_x > 1"},
        },
        params={"queries": ["one", "none"]},
        look=look,
        done=lambda before, after: before == after,
        spoil=spoil,
        hostile=(
            {"queries": []},
            {"queries": ["other"]},
            {"queries": ["up"]},
            {"queries": ["vector(1) or up"]},
            {"queries": ["one\n"]},
            {"max_samples": 0},
            {"max_samples": 10**9},
            {"expr": "up"},
        ),
        trigger=b"GET /api/v1/query",
        reads=True,
    )


@contract(QUERY, "plan")
async def test_a_query_is_planned(query: Case) -> None:
    """It changes nothing."""
    await call_cases.check_plan(query)


@contract(QUERY, "apply")
async def test_samples_are_kept(query: Case) -> None:
    """Samples and their absence are both kept, with the expression."""
    async with query.acting() as action:
        result = await action.apply(await query.planned(action))

    assert not result.changed
    assert [{"labels": {}, "value": "1"}] == result.evidence["prometheus"]["one"]["samples"]
    assert [] == result.evidence["prometheus"]["none"]["samples"]


@contract(QUERY, "reapply")
async def test_a_second_query_is_as_the_first(query: Case) -> None:
    """It only reads."""
    await call_cases.check_reapply(query)


@contract(QUERY, "stale")
async def test_other_queries_than_planned_are_refused(query: Case) -> None:
    """Where the expression behind a name changed, the plan is stale."""
    async with query.acting() as action:
        effect = await query.planned(action)
    changed = {"one": "vector(2)", "none": "absent_x > 1"}
    async with query.acting(queries=changed) as action:
        with pytest.raises(Drifted):
            await action.apply(effect)


@contract(QUERY, "undo")
async def test_a_query_has_no_undo(query: Case) -> None:
    """It refuses."""
    await call_cases.check_undo(query)


@contract(QUERY, "hostile")
async def test_hostile_queries_are_refused(query: Case) -> None:
    """No expression comes from a parameter."""
    await call_cases.check_hostile(query)


@contract(QUERY, "dies")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_prometheus_that_hangs_up(query: Case, when: When) -> None:
    """It may be asked again: only the look itself is lost."""
    async with (
        CutLine(query.port, trigger=query.trigger, when=when) as line,
        query.acting(f"http://127.0.0.1:{line.port}") as action,
    ):
        with pytest.raises(TemporaryFailure):
            await query.planned(action)
    assert line.cut
