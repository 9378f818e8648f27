"""Execute: apply one step, take one back, or look again at one whose outcome was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from remediator.domain.facts import Applied, Failed, Reobserved, Undone
from remediator.domain.plans import Effect, PlannedStep, Progress, Result
from remediator.domain.remediations import Remediation
from remediator.errors import ActionError, OutcomeUnknown, TemporaryFailure
from remediator.pipeline.ports import Actions


def _step(remediation: Remediation) -> PlannedStep:
    assert remediation.plan is not None
    assert remediation.pending is not None
    return remediation.plan.steps[remediation.pending.step]


async def apply(remediation: Remediation, actions: Actions) -> Applied | Failed:
    """Carry out one step, effect by effect; the first that fails ends it.

    Tried again only where the action is idempotent and said that nothing was changed.
    """
    step = _step(remediation)
    results: list[Result] = []
    try:
        action = actions.get(step.action, remediation.system, step.connection)
        tries = step.tries if step.idempotent else 1
        async with asyncio.timeout(step.timeout.total_seconds()):
            for effect in step.effects:
                async for attempt in _retrying(tries):
                    with attempt:
                        results.append(await action.apply(effect))
    except TimeoutError:
        return Failed(f"{step.action} took longer than {step.timeout}", certain=False)
    except OutcomeUnknown as error:
        return Failed(str(error), certain=False)
    except ActionError as error:
        # Certain only where no effect of this step was applied before the one that failed.
        return Failed(str(error), certain=not any(result.changed for result in results))
    return Applied(_together(results))


def _retrying(tries: int) -> AsyncRetrying:
    return AsyncRetrying(
        stop=stop_after_attempt(tries),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        retry=retry_if_exception_type(TemporaryFailure),
        reraise=True,
    )


def _together(results: list[Result]) -> Result:
    evidence: dict[str, Any] = {}
    for result in results:
        evidence.update(result.evidence)
    return Result(
        summary="; ".join(result.summary for result in results),
        changed=any(result.changed for result in results),
        evidence=evidence,
        captured={"results": [asdict(result) for result in results]},
    )


def _apart(result: Result) -> list[Result]:
    kept: list[Mapping[str, Any]] = result.captured["results"]
    return [Result(**one) for one in kept]


async def undo(remediation: Remediation, actions: Actions) -> Undone | Failed:
    """Take one applied step back, its last effect first."""
    step, result = _step(remediation), remediation.results[remediation.pending.step]  # type: ignore[union-attr]
    told: list[str] = []
    try:
        action = actions.get(step.action, remediation.system, step.connection)
        async with asyncio.timeout(step.timeout.total_seconds()):
            for effect, of_effect in reversed(list(zip(step.effects, _apart(result), strict=True))):
                if effect.undo and of_effect.changed:
                    told.append((await action.undo(effect, of_effect)).summary)
    except TimeoutError:
        return Failed(f"the undo took longer than {step.timeout}", certain=False)
    except ActionError as error:
        return Failed(str(error), certain=False)
    return Undone(Result("; ".join(told)))


async def reobserve(remediation: Remediation, actions: Actions) -> Reobserved | Failed:
    """Look again at a step that may or may not have happened."""
    step = _step(remediation)
    try:
        action = actions.get(step.action, remediation.system, step.connection)
        async with asyncio.timeout(step.timeout.total_seconds()):
            seen = await action.observe(action.Params.model_validate(step.params))
    except TimeoutError:
        return Failed("looking again took too long", certain=False)
    except ActionError as error:
        return Failed(str(error), certain=False)
    return Reobserved(_all_agree([_progress(action, effect, seen) for effect in step.effects]))


def _progress(action: Any, effect: Effect, seen: Any) -> Progress:
    found: Progress = action.progress(effect, seen)
    return found


def _all_agree(found: list[Progress]) -> Progress:
    return found[0] if len(set(found)) == 1 else Progress.UNCLEAR
