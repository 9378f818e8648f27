"""The contract of every MLflow action, on a real MLflow server with SQLite."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remediator.actions.mlflow import Archive, BlockPromotion, SetAlias
from remediator.domain.plans import Progress
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused, TemporaryFailure
from tests.support import call_cases
from tests.support.call_cases import Case
from tests.support.contract import each_of
from tests.support.cutline import CutLine, When
from tests.support.mlflow import MlflowServer

pytestmark = pytest.mark.xdist_group("mlflow")

Make = Callable[[str], Case]
KINDS = ("mlflow.set_alias", "mlflow.archive", "mlflow.block_promotion")
_names = itertools.count(1)

HOSTILE_NAMES = ("", "../x", "ranker' OR name='other", "a;b", "a\nb", "*", "other", "a/b", "x" * 200)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """The module's MLflow; every test has models of its own."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        running.model("other", versions=2)
        yield running


@pytest.fixture
def make(server: MlflowServer) -> Make:
    """Prepare a model for a use of an action."""
    server.start()
    return lambda kind: _MAKERS[kind](server)


each = each_of(KINDS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


def _case(server: MlflowServer, model: str, action: Any, **more: Any) -> Case:
    async def look() -> Any:
        return await asyncio.to_thread(server.look, model, "other")

    def settings(url: str) -> dict[str, Any]:
        return {
            "kind": "mlflow",
            "tracking_uri": url,
            "models": [model],
            "aliases": ["champion"],
            "timeout_seconds": 20,
        }

    return Case(action=action, port=server.port, settings=settings, look=look, **more)


def _model(server: MlflowServer) -> str:
    name = server.model(f"ranker-{next(_names)}", versions=4, verified=(1, 2, 4))
    server.point(name, "champion", 4)
    server.point(name, "shadow", 3)
    return name


def _aliased(server: MlflowServer) -> Case:
    model = _model(server)

    def done(before: Any, after: Any) -> bool:
        aliases = {**before[model]["aliases"], "champion": "2"}
        return bool(after == {**before, model: {**before[model], "aliases": aliases}})

    async def spoil() -> None:
        await asyncio.to_thread(server.point, model, "champion", 1)

    return _case(
        server,
        model,
        SetAlias,
        params={"model": model, "alias": "champion", "version": "previous"},
        done=done,
        spoil=spoil,
        hostile=(
            *({"model": name} for name in HOSTILE_NAMES),
            *({"alias": name} for name in ("", "shadow", "../x", "a b", "*")),
            *({"version": name} for name in ("", "0", "-1", "3", "99", "latest", "1;2", "1\n")),
        ),
        trigger=b"POST /api/2.0/mlflow/registered-models/alias",
        undoes=("DELETE /api/2.0/mlflow/registered-models/alias",),
    )


def _archived(server: MlflowServer) -> Case:
    model = _model(server)

    def done(before: Any, after: Any) -> bool:
        versions = {**before[model]["versions"], "1": ("Archived", before[model]["versions"]["1"][1])}
        return bool(after == {**before, model: {**before[model], "versions": versions}})

    async def spoil() -> None:
        body = {"name": model, "version": "1", "stage": "Staging", "archive_existing_versions": False}
        await asyncio.to_thread(lambda: server.rest("POST", "model-versions/transition-stage", **body))

    return _case(
        server,
        model,
        Archive,
        params={"model": model, "version": "1"},
        done=done,
        spoil=spoil,
        hostile=(
            *({"model": name} for name in HOSTILE_NAMES),
            *({"version": name} for name in ("", "4", "3", "99", "all", "1;2")),
        ),
        trigger=b"POST /api/2.0/mlflow/model-versions/transition-stage",
    )


def _blocked(server: MlflowServer) -> Case:
    model = _model(server)
    server.rest("POST", "model-versions/create", name=model, source="s3://models/candidate")

    def done(before: Any, after: Any) -> bool:
        stage, tags = before[model]["versions"]["5"]
        versions = {**before[model]["versions"], "5": (stage, {**tags, "promotion_blocked": "NDCG 0.31"})}
        return bool(after == {**before, model: {**before[model], "versions": versions}})

    async def spoil() -> None:
        await asyncio.to_thread(server.tag, model, 5, "promotion_blocked", "by a person")

    return _case(
        server,
        model,
        BlockPromotion,
        params={"model": model, "reason": "NDCG 0.31"},
        done=done,
        spoil=spoil,
        hostile=(
            *({"model": name} for name in HOSTILE_NAMES),
            *({"version": name} for name in ("", "4", "99", "all", "5;4")),
            *({"reason": text} for text in ("", "a\nb", "x" * 300)),
        ),
        trigger=b"POST /api/2.0/mlflow/model-versions/set-tag",
        undoes=("DELETE /api/2.0/mlflow/model-versions/delete-tag",),
    )


_MAKERS = {"mlflow.set_alias": _aliased, "mlflow.archive": _archived, "mlflow.block_promotion": _blocked}


@each("plan")
async def test_a_plan_changes_nothing(kind: str, make: Make) -> None:
    """A plan tells the effect in figures, is the same twice, and changes nothing."""
    await call_cases.check_plan(make(kind))


@each("apply")
async def test_apply_does_what_was_planned(kind: str, make: Make) -> None:
    """An administrator sees the planned effect on that model, and nothing else."""
    await call_cases.check_apply(make(kind))


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, make: Make) -> None:
    """The same effect again changes nothing."""
    await call_cases.check_reapply(make(kind))


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, make: Make) -> None:
    """Where somebody else moved the alias, the stage or the tag, it is left as they have it."""
    await call_cases.check_stale(make(kind))


@each("undo")
async def test_undo_restores(kind: str, make: Make) -> None:
    """Everything is as it was, and a second undo does nothing."""
    await call_cases.check_undo(make(kind))


@each("undo")
async def test_undo_leaves_what_others_did_since(kind: str, make: Make) -> None:
    """What somebody else set after us is not taken back."""
    case = make(kind)
    async with case.acting() as action:
        effect = await case.planned(action)
        result = await action.apply(effect)
        await case.spoil()
        spoilt = await case.look()
        with pytest.raises(Drifted):
            await action.undo(effect, result)

    assert spoilt == await case.look()


@each("hostile")
async def test_hostile_parameters_are_refused(kind: str, make: Make) -> None:
    """Names that are no names, other models, other aliases, versions in use: nothing is changed."""
    await call_cases.check_hostile(make(kind))


@pytest.mark.parametrize("when", ["before", "after"])
@each("dies")
async def test_a_lost_answer_is_found_out(kind: str, when: When, make: Make) -> None:
    """The outcome is unknown, a second look tells it, and the effect is done once in all."""
    await call_cases.check_lost(make(kind), when)


@each("privilege")
async def test_the_printed_calls_are_enough(kind: str, make: Make, tmp_path: Path) -> None:
    """Behind a proxy that lets only the printed calls with the token through everything works; with less it does not."""
    await call_cases.check_privilege(make(kind), tmp_path)


@pytest.mark.contract("mlflow.set_alias", "dies")
async def test_a_server_that_dies_for_good(server: MlflowServer, make: Make) -> None:
    """Killed at the change the outcome is unknown; while it is down nothing is tried; back again it is done once."""
    case = make("mlflow.set_alias")
    before = await case.look()
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
        assert action.progress(effect, await action.observe(case.parameters())) is Progress.UNTOUCHED
        assert (await action.apply(effect)).changed

    assert case.done(before, await case.look())


async def test_only_verified_versions_serve(server: MlflowServer, make: Make) -> None:
    """An unverified one and a blocked one are refused, `previous` passes over them, and without one there is nothing."""
    case = make("mlflow.set_alias")
    model = case.params["model"]
    async with case.acting() as action:
        with pytest.raises(Refused, match="validation_status"):
            await case.planned(action, version="3")
        server.tag(model, 2, "promotion_blocked", "bad")
        with pytest.raises(Refused, match="blocked"):
            await case.planned(action, version="2")
        assert {"version": "1"} == (await case.planned(action)).after
        server.point(model, "champion", 1)
        with pytest.raises(NothingSelected):
            await case.planned(action)


async def test_archiving_by_tag(make: Make) -> None:
    """Where stages are not used any more, a tag says it, and undo removes it."""
    case = make("mlflow.archive")
    model = case.params["model"]
    async with case.acting(archive_by="tag") as action:
        before = await case.look()
        effect = await case.planned(action)
        result = await action.apply(effect)
        assert "true" == (await case.look())[model]["versions"]["1"][1]["archived"]
        assert not (await action.apply(effect)).changed
        assert (await action.undo(effect, result)).changed

    assert before == await case.look()
