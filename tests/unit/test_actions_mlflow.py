"""MLflow actions: what their pure parts make of a model."""

from __future__ import annotations

import pytest

from remediator.actions.mlflow import MlflowConnection, Model, SetAlias, SetAliasParams, Version
from remediator.actions.mlflow.archive import Archive, ArchiveParams
from remediator.actions.mlflow.block import BlockPromotion, BlockPromotionParams
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, Refused

OK = {"validation_status": "approved"}
HERE = MlflowConnection(kind="mlflow", tracking_uri="http://mlflow:5000", models=("m",), aliases=("a",))
MODEL = Model(
    "m",
    (
        Version("4", 40, "READY", "None", OK),
        Version("3", 30, "FAILED_REGISTRATION", "None", OK),
        Version("2", 20, "READY", "None", {**OK, "promotion_blocked": "bad"}),
        Version("1", 10, "READY", "Archived", OK),
    ),
    {"a": "4"},
)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("previous", "1"),
        ("1", "1"),
        ("2", Refused),
        ("3", Refused),
        ("4", NothingSelected),
        ("9", NothingSelected),
    ],
)
def test_which_version_is_served(version: str, expected: str | type[ActionError]) -> None:
    """Only a ready, verified, unblocked one; an archived one is kept for just that."""
    params = SetAliasParams(connection="it", model="m", alias="a", version=version)
    if isinstance(expected, str):
        effect = SetAlias(HERE).plan(params, MODEL)[0]
        moved = Model("m", MODEL.versions, {"a": "1"})
        assert {"version": expected} == effect.after
        assert Progress.DONE is SetAlias(HERE).progress(effect, moved)
        assert Progress.UNTOUCHED is SetAlias(HERE).progress(effect, MODEL)
    else:
        with pytest.raises(expected):
            SetAlias(HERE).plan(params, MODEL)


@pytest.mark.parametrize(("version", "plans"), [("4", False), ("2", True), ("1", False), ("9", False)])
def test_archive_takes_nothing_that_serves(version: str, plans: bool) -> None:
    """What an alias points to, what is archived already and what is not there is refused; the rest is tagged."""
    params = ArchiveParams(connection="it", model="m", version=version)
    if plans:
        assert version in Archive(HERE).plan(params, MODEL)[0].summary
    else:
        with pytest.raises(ActionError):
            Archive(HERE).plan(params, MODEL)


@pytest.mark.parametrize(("version", "plans"), [("3", True), ("4", False), ("2", False)])
def test_block_promotion_takes_a_candidate(version: str, plans: bool) -> None:
    """A version that serves, or that is blocked already, is refused."""
    params = BlockPromotionParams(connection="it", model="m", version=version)
    if plans:
        assert BlockPromotion(HERE).plan(params, MODEL)[0].undo
    else:
        with pytest.raises(ActionError):
            BlockPromotion(HERE).plan(params, MODEL)
