"""Advance: the imperative shell around the state machine.

Load, decide, write, do the one command, write what came of it. Every transition is written before its command
is carried out, so whatever we were doing when we stopped stands in the ledger as `pending`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from remediator import telemetry
from remediator.domain.approvals import Vote
from remediator.domain.facts import (
    Escalated,
    Fact,
    Failed,
    Interrupted,
    Judged,
    Planned,
    Resolved,
    Voted,
    Woken,
)
from remediator.domain.guards import Facts, judge
from remediator.domain.machine import decide
from remediator.domain.playbooks import Playbook
from remediator.domain.remediations import Do, Phase, Remediation, Transition
from remediator.errors import ActionError, RemediatorError, StaleWrite
from remediator.pipeline import execute
from remediator.pipeline.escalate import messages
from remediator.pipeline.guard import count, look
from remediator.pipeline.plan import drifted, make_plan
from remediator.pipeline.ports import Actions, Clock, Dispatch, Ledger, Loaded, Message, World
from remediator.pipeline.verify import sample

log = structlog.get_logger()

_BEFORE_ANY_STEP = frozenset({Phase.MATCHED, Phase.JUDGED, Phase.AWAITING_APPROVAL, Phase.APPROVED})


class Advance:
    """Moves remediations on, each by one task at a time."""

    def __init__(
        self,
        ledger: Ledger,
        dispatch: Dispatch,
        world: World,
        actions: Actions,
        clock: Clock,
        playbooks: Mapping[str, Playbook],
    ) -> None:
        self._ledger, self._dispatch, self._world = ledger, dispatch, world
        self._actions, self._clock = actions, clock
        self.playbooks = playbooks
        self._retired: list[Actions] = []
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def use(self, playbooks: Mapping[str, Playbook], actions: Actions | None) -> None:
        """Plan by these playbooks and connections from now on; what was planned stays what it was."""
        self.playbooks = playbooks
        if actions is not None:
            self._retired.append(self._actions)
            self._actions = actions

    async def close(self) -> None:
        """Let every connection go, those of earlier loads too: a running step may have kept one."""
        for actions in (*self._retired, self._actions):
            await actions.close()

    async def recover(self) -> int:
        """After a start: whatever was pending when we stopped was interrupted. Returns how many were."""
        unfinished = await self._ledger.unfinished()
        for remediation in unfinished:
            transition = decide(remediation, Interrupted(), self._clock.now())
            if transition.events:
                await self._write(remediation, transition)
            self._dispatch.wake(remediation.id)
        return len(unfinished)

    async def run(self, id_: str) -> None:
        """Carry a remediation on until it waits or ends."""
        async with self._lock(id_):
            loaded: Loaded | None = await self._ledger.load(id_)
            while loaded is not None:
                try:
                    loaded = await self._step(loaded)
                except StaleWrite:
                    log.info("moved by somebody else, loading again", remediation=id_)
                    loaded = await self._ledger.load(id_)

    async def vote(self, id_: str, vote: Vote) -> str:
        """Count a vote. Returns "" when it counted, else why not. Raises KeyError for an unknown id."""
        async with self._lock(id_):
            remediation = (await self._ledger.load(id_)).remediation
            transition = decide(remediation, Voted(vote), self._clock.now())
            if transition.events:
                await self._write(remediation, transition)
        telemetry.VOTES.labels("refused" if transition.refused else "counted").inc()
        if not transition.refused:
            self._dispatch.wake(id_)
        return transition.refused

    def _lock(self, id_: str) -> asyncio.Lock:
        return self._locks[id_]

    async def _step(self, loaded: Loaded) -> Loaded | None:
        """One fact, one transition, and what it left. None when there is nothing to do for now.

        What was just written need not be read again. That the alert resolved meanwhile, the guards read in the
        ledger before anything is begun.
        """
        before = loaded.remediation
        if before.final:
            self._locks.pop(before.id, None)
            return None
        pending = before.pending
        assert pending is not None
        if loaded.resolved and before.phase in _BEFORE_ANY_STEP:
            after = await self._write(before, decide(before, Resolved(), self._clock.now()))
        elif pending.do in (Do.WAIT, Do.ASK):
            transition = decide(before, Woken(), self._clock.now())
            if transition.after is before:
                waiting = before.phase is Phase.AWAITING_APPROVAL
                self._dispatch.wake(before.id, before.expires_at if waiting else pending.until)
                return None
            after = await self._write(before, transition)
        elif pending.do is Do.JUDGE:
            after = await self._reserve(before)
        else:
            fact = await self._carry_out(loaded)
            after = await self._write(before, decide(before, fact, self._clock.now()))
        return replace(loaded, remediation=after)

    async def _reserve(self, before: Remediation) -> Remediation:
        with telemetry.stage("guard"):
            playbook = self.playbooks.get(before.current.playbook)
            facts = await look(before, playbook, self._world, self._clock.now())
            after = await self._ledger.reserve(before, facts, partial(_settle, before))
        self._ended(before, after)
        return after

    async def _carry_out(self, loaded: Loaded) -> Fact:
        before = loaded.remediation
        assert before.pending is not None
        do = before.pending.do
        with telemetry.stage(do.value), structlog.contextvars.bound_contextvars(remediation=before.id):
            try:
                match do:
                    case Do.PLAN:
                        return Planned(
                            await make_plan(before, self.playbooks, self._actions, self._clock.now())
                        )
                    case Do.RECHECK:
                        return await self._recheck(before)
                    case Do.APPLY:
                        return await execute.apply(before, self._actions)
                    case Do.REOBSERVE:
                        return await execute.reobserve(before, self._actions)
                    case Do.UNDO:
                        return await execute.undo(before, self._actions)
                    case Do.SAMPLE:
                        return await sample(before, self._world)
                    case _:
                        return Escalated()
            except ActionError as error:
                return Failed(str(error))
            except RemediatorError:
                raise
            except Exception as error:
                log.exception("a command failed in a way it should not", do=do.value)
                return Failed(f"{type(error).__name__}: {telemetry.redact(str(error))}", certain=False)

    async def _recheck(self, before: Remediation) -> Judged:
        """The guards and the plan once more, right before a step: the claim is ours, so it is only read."""
        playbook = self.playbooks.get(before.current.playbook)
        outside, drift = await asyncio.gather(
            look(before, playbook, self._world, self._clock.now()), drifted(before, self._actions)
        )
        facts = await self._ledger.facts(before, outside)
        verdicts = judge(facts, before.limits)
        count(verdicts)
        return Judged(verdicts, drift)

    async def _write(self, before: Remediation, transition: Transition) -> Remediation:
        after = await self._ledger.write(transition, self._clock.now(), messages(before, transition))
        self._ended(before, after)
        return after

    def _ended(self, before: Remediation, after: Remediation) -> None:
        if after.phase is not before.phase:
            log.info(
                "moved",
                remediation=after.id,
                rule=after.rule,
                was=before.phase.value,
                phase=after.phase.value,
            )
        if after.final and not before.final:
            telemetry.REMEDIATIONS.labels(after.rule, after.current.playbook, after.phase.value).inc()


def _settle(before: Remediation, facts: Facts) -> tuple[Transition, Sequence[Message]]:
    verdicts = judge(facts, before.limits)
    count(verdicts)
    transition = decide(before, Judged(verdicts), facts.now)
    return transition, messages(before, transition)
