"""The contract that the actions of Docker, Compose and nginx keep alike, on a real engine; what is special is beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.support import compose_cases, docker_cases, emergency
from tests.support.compose_cases import ProjectOnDisk
from tests.support.contract import each_of
from tests.support.dockerd import DockerEngine
from tests.support.emergency import EmergencySite
from tests.support.engine_contract import (
    Case,
    Look,
    shows_absence,
    shows_apply,
    shows_death,
    shows_hostile,
    shows_plan,
    shows_reapply,
    shows_stale,
    shows_undo,
    without_runs,
)

pytest_plugins = ["tests.support.engine_fixtures"]

each = each_of([*docker_cases.MAKERS, *compose_cases.MAKERS, *emergency.MAKERS])
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def case(kind: str, docker_engine: DockerEngine, project: ProjectOnDisk, site: EmergencySite) -> Case:
    """A use of an action, on the engine, project or site that was prepared for it."""
    makers: dict[str, Callable[[], Case]] = {
        **{name: partial(maker, docker_engine) for name, maker in docker_cases.MAKERS.items()},
        **{name: partial(maker, project) for name, maker in compose_cases.MAKERS.items()},
        **{name: partial(maker, site) for name, maker in emergency.MAKERS.items()},
    }
    return makers[kind]()


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(kind: str, case: Case) -> None:
    """Observing and planning twice gives the same effect with its figures, and leaves everything as it was."""
    await shows_plan(case)


@each("apply")
async def test_apply_does_what_was_planned(kind: str, case: Case) -> None:
    """After apply an administrator (of the site, a stranger) sees the planned effect and nothing else, and so does a
    second look.
    """
    await shows_apply(case)


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, case: Case) -> None:
    """Applying the same effect again changes nothing and says so."""
    await shows_reapply(case)


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, case: Case) -> None:
    """What somebody else has changed since is left as they left it."""
    await shows_stale(case)


def images(found: Look) -> dict[str, str]:
    """Which image each container runs."""
    return {name: one["image"] for name, one in found.items() if isinstance(one, dict)}


@each("undo")
async def test_undo_restores_or_says_that_nothing_can(kind: str, case: Case) -> None:
    """What was there before is there again, but for the run of a container (and which one it is, where it was made
    anew); or the undo is refused with a reason, as emergency mode is never left by itself.
    """
    await shows_undo(case, images if kind == "compose.recreate" else without_runs)


@each("hostile")
async def test_hostile_parameters_are_refused(kind: str, case: Case) -> None:
    """What is out of bounds, a pattern, or not allowed is no parameter, or is refused; in a forged effect too."""
    await shows_hostile(case)


@each("dies")
async def test_an_engine_that_dies_leaves_a_defined_outcome(kind: str, case: Case) -> None:
    """Where the engine dies at the change the outcome is unknown; when it is back, a look tells how things stand."""
    await shows_death(case)


@each("dies")
async def test_an_engine_that_is_not_there_is_told_as_such(kind: str, case: Case) -> None:
    """Where nothing was sent, nothing was changed, and that is what is said."""
    await shows_absence(case)
