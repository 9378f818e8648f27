"""Plan: bind the playbook, look, and compute the effects. It changes nothing: a dry run ends here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError

from remediator.domain.plans import Plan, PlannedStep, drift
from remediator.domain.playbooks import BoundStep, Playbook, bind
from remediator.domain.remediations import Remediation
from remediator.errors import ActionError, PermanentFailure, Refused
from remediator.pipeline.ports import Actions

REMEDIATION = "remediation"
"""The parameter by which an action is told on whose behalf it acts. It is filled in here, whatever a file says."""


async def make_plan(
    remediation: Remediation, playbooks: Mapping[str, Playbook], actions: Actions, now: datetime
) -> Plan:
    """The plan of the current rung.

    Raises:
        ActionError: when there is nothing to act on, or it may not be, or it could not be seen.
    """
    rung = remediation.current
    if not rung.playbook:
        return Plan("", (), now, (rung.when or "a person looks at it",))
    playbook = playbooks.get(rung.playbook)
    if playbook is None:
        raise Refused(f"there is no playbook {rung.playbook} any more")
    try:
        bound = bind(playbook, rung.arguments, remediation.labels)
    except ValueError as error:
        raise Refused(str(error)) from error
    steps = tuple([await plan_step(remediation, step, actions) for step in bound])
    confirmations = tuple(gate.confirm for gate in playbook.gates if gate.confirm)
    return Plan(playbook.name, steps, now, (*playbook.checklist, *confirmations), playbook.undo)


async def plan_step(remediation: Remediation, step: BoundStep, actions: Actions) -> PlannedStep:
    """Look, for as long as one try of the step may take, and compute what it would change."""
    connection = str(step.arguments.get("connection", ""))
    action = actions.get(step.action, remediation.system, connection)
    arguments = dict(step.arguments)
    if REMEDIATION in action.Params.model_fields:
        arguments[REMEDIATION] = remediation.id
    try:
        params = action.Params.model_validate(arguments)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
        )
        raise Refused(f"{step.action}: {faults}") from error
    try:
        async with asyncio.timeout(step.timeout.total_seconds()):
            seen = await action.observe(params)
    except TimeoutError as error:
        raise PermanentFailure(f"{step.action}: looking took longer than {step.timeout}") from error
    effects = action.plan(params, seen)
    if not effects:
        raise PermanentFailure(f"{step.action} planned no effect; that is a defect of the action")
    return PlannedStep(
        name=step.name,
        action=step.action,
        connection=connection,
        params=params.model_dump(mode="json"),
        effects=effects,
        idempotent=action.idempotent,
        timeout=step.timeout,
        tries=step.tries,
    )


async def drifted(remediation: Remediation, actions: Actions) -> tuple[str, ...]:
    """How the next step no longer fits what is there; empty where the plan still holds."""
    plan = remediation.plan
    assert plan is not None
    planned = plan.steps[remediation.step]
    step = BoundStep(planned.name, planned.action, planned.params, planned.timeout, planned.tries)
    try:
        fresh = await plan_step(remediation, step, actions)
    except ActionError as error:
        return (str(error),)
    return drift(planned, fresh, plan.steps[: remediation.step])
