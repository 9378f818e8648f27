"""alertmanager.silence and alertmanager.lift: what their pure parts make of what was seen."""

from __future__ import annotations

import pytest

from remediator.actions.alertmanager import (
    AlertmanagerConnection,
    Lift,
    LiftParams,
    Seen,
    SeenHeld,
    Silence,
    SilenceParams,
)
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, Refused

HERE = AlertmanagerConnection(kind="alertmanager", url="http://am:9093", labels={"system": "demo"})
PARAMS = SilenceParams(connection="it", labels={"alertname": "A", "system": "demo"})


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(Seen((), (), {}), NothingSelected, id="no-alert"),
        pytest.param(Seen(("1", "2"), (), {}), Refused, id="too-many"),
        pytest.param(Seen(("1",), ("s",), {"s": "c"}), NothingSelected, id="silenced"),
    ],
)
def test_what_is_not_silenced(seen: Seen, error: type[ActionError]) -> None:
    """Nothing, too much, or what is silenced already."""
    with pytest.raises(error):
        Silence(HERE).plan(PARAMS, seen)


def test_progress() -> None:
    """By the reference in the comment of a silence that holds."""
    seen = Seen(("1",), (), {})
    effect = Silence(HERE).plan(PARAMS, seen)[0]
    ours = Seen(("1",), ("s",), {"s": effect.after["comment"]})

    assert Progress.UNTOUCHED is Silence(HERE).progress(effect, seen)
    assert Progress.DONE is Silence(HERE).progress(effect, ours)
    assert Progress.UNCLEAR is Silence(HERE).progress(effect, Seen(("1",), ("t",), {"t": "other"}))


def test_the_comment_names_the_remediation() -> None:
    """Two remediations' silences of the same alert are told apart by their comments."""
    seen = Seen(("1",), (), {})
    comments = [
        Silence(HERE).plan(PARAMS.model_copy(update={"remediation": name}), seen)[0].after["comment"]
        for name in ("r1", "r2")
    ]

    assert ["remediator r1", "remediator r2"] == [" ".join(one.split()[:2]) for one in comments]


HELD = {"id": "s", "comment": "remediator r1 x: y", "ends_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param((), Progress.DONE, id="none-holds"),
        pytest.param((HELD,), Progress.UNTOUCHED, id="holds"),
        pytest.param((HELD, HELD), Progress.UNCLEAR, id="more-than-one"),
    ],
)
def test_a_lift_is_done_when_nothing_holds(held: tuple[dict[str, str], ...], expected: Progress) -> None:
    """It is planned whether the silence is there or is only to be made, and judged by what holds."""
    params = LiftParams(connection="it", labels=dict(PARAMS.labels), remediation="r1")
    (effect,) = Lift(HERE).plan(params, SeenHeld(()))

    assert (0, 1) == (effect.figures["silences"], effect.at_most["silences"])
    assert expected is Lift(HERE).progress(effect, SeenHeld(held))
