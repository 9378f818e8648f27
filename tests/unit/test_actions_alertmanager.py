"""alertmanager.silence: what its pure part makes of what was seen."""

from __future__ import annotations

import pytest

from remediator.actions.alertmanager import AlertmanagerConnection, Seen, Silence, SilenceParams
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
