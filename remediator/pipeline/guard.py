"""Guard: gather what the guards ask for from Prometheus, Alertmanager and the playbook's gates."""

from __future__ import annotations

import asyncio
from datetime import datetime

from remediator import telemetry
from remediator.domain.guards import Allow, Facts, Verdict, World
from remediator.domain.playbooks import Playbook
from remediator.domain.remediations import Remediation
from remediator.domain.rules import Mode
from remediator.errors import WorldUnavailable
from remediator.pipeline.ports import World as WorldPort

ACTS = (Mode.APPROVE, Mode.AUTO)
"""The modes in which something may be changed in the end."""


async def look(remediation: Remediation, playbook: Playbook | None, world: WorldPort, now: datetime) -> Facts:
    """What the outside says, now. The ledger completes it with what it counts."""
    firing, muted, gates = await asyncio.gather(
        _firing(remediation, world), _muted(remediation, world), _gates_open(playbook, world)
    )
    silenced_by, inhibited_by = muted
    return Facts(
        now=now,
        subject=remediation.subject,
        received_at=now,
        world=World(firing, silenced_by, inhibited_by),
        gates_open=gates,
        begun=remediation.begun_at is not None,
        alertless=remediation.alertless,
        acting=remediation.mode in ACTS,
        critical=remediation.labels.get("severity") == "critical",
    )


def count(verdicts: tuple[Verdict, ...]) -> None:
    """Tell the metrics what the guards said."""
    for verdict in verdicts:
        telemetry.VERDICTS.labels(verdict.guard, "allow" if isinstance(verdict, Allow) else "deny").inc()


async def _firing(remediation: Remediation, world: WorldPort) -> bool | None:
    if remediation.alertless:
        return None
    try:
        return await world.firing(remediation.labels)
    except WorldUnavailable:
        return None


async def _muted(
    remediation: Remediation, world: WorldPort
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    try:
        return await world.muted(remediation.labels, remediation.id)
    except WorldUnavailable:
        return None, None


async def _gates_open(playbook: Playbook | None, world: WorldPort) -> tuple[str, ...]:
    if playbook is None:
        return ()
    asked = [gate for gate in playbook.gates if gate.promql]
    answers = await asyncio.gather(*(_holds(gate.promql, world) for gate in asked))
    return tuple(gate.id for gate, holds in zip(asked, answers, strict=True) if not holds)


async def _holds(promql: str, world: WorldPort) -> bool:
    try:
        return (await world.sample(promql))[0] is True
    except WorldUnavailable:
        return False
