"""Binding a playbook: values are replaced whole, and a label can only choose."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.domain.playbooks import BoundStep, Choice, Parameter, Playbook, Reference, Step, bind

STEP = Step(
    "one", "fake.set", {"connection": "c", "to": Reference("to"), "deep": {"list": [Reference("to"), 2]}}
)
PLAYBOOK = Playbook(
    "p", "P", "low", (STEP,), {"to": Parameter("to"), "more": Parameter("more", default=5, required=False)}
)


def test_references_are_replaced_whole_and_deep() -> None:
    """A parameter's value arrives as it is, wherever it is referred to."""
    expected = BoundStep(
        "one", "fake.set", {"connection": "c", "to": [1], "deep": {"list": [[1], 2]}}, timedelta(minutes=1), 1
    )

    assert (expected,) == bind(PLAYBOOK, {"to": [1]}, {})


@pytest.mark.parametrize(
    ("arguments", "labels", "told"),
    [
        pytest.param({}, {}, "needs the parameter to", id="missing"),
        pytest.param({"to": 1, "tu": 2}, {}, "no parameter tu", id="unknown"),
        pytest.param({"to": Choice("host", {"a": "1"})}, {}, "none of a", id="label-absent"),
        pytest.param(
            {"to": Choice("host", {"a": "1"})}, {"host": "../a"}, "none of a", id="label-not-allowed"
        ),
    ],
)
def test_refused(arguments: dict[str, object], labels: dict[str, str], told: str) -> None:
    """What is missing, unknown or not allowed is an error that names it."""
    with pytest.raises(ValueError, match=told):
        bind(PLAYBOOK, arguments, labels)


@given(st.text())
def test_a_label_never_becomes_a_value(value: str) -> None:
    """Whatever an alert's label says, what is bound was written in the rule."""
    choice = Choice("host", {"a": "first", "b": "second", "": "none"})
    try:
        (step,) = bind(PLAYBOOK, {"to": choice}, {"host": value})
    except ValueError:
        assert value not in choice.among
    else:
        assert choice.among[value] == step.arguments["to"]


@given(st.text())
def test_text_is_never_read_as_a_reference(text: str) -> None:
    """A value that looks like a reference stays text."""
    (step,) = bind(PLAYBOOK, {"to": f"$more{text}"}, {})

    assert f"$more{text}" == step.arguments["to"]
