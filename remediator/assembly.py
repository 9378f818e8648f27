"""Assembly: the pipeline joined to one outside. The same for production, replay and tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from remediator import telemetry
from remediator.adapters.dispatch_local import LocalDispatch
from remediator.adapters.rulebook import RuleBook
from remediator.domain.events import Event
from remediator.domain.rules import Mode
from remediator.errors import ConfigError, Finding
from remediator.offload import offload
from remediator.pipeline.advance import Advance
from remediator.pipeline.episodes import OwnEpisodes
from remediator.pipeline.ingest import Ingest
from remediator.pipeline.outbox import Outbox
from remediator.pipeline.ports import Actions, Clock, Ledger, Messenger, World
from remediator.pipeline.service import Service
from remediator.pipeline.start import Starter

log = structlog.get_logger()


@dataclass
class Parts:
    """The service, put together; `replace` the outside for a replay or a test."""

    ledger: Ledger
    clock: Clock
    dispatch: LocalDispatch
    ingest: Ingest
    advance: Advance
    service: Service
    outbox: Outbox
    episodes: OwnEpisodes
    book: RuleBook
    tasks: set[asyncio.Task[None]]

    def spawn(self, work: Awaitable[None]) -> None:
        """Run something that may come after the answer, and keep hold of it."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def assemble(
    book: RuleBook,
    *,
    mode: Mode,
    ledger: Ledger,
    clock: Clock,
    world: World,
    actions: Actions,
    messenger: Messenger,
    read_again: Callable[[], RuleBook] | None = None,
    rebind: Callable[[RuleBook], Actions] | None = None,
) -> Parts:
    """Join the pipeline. The same for production, replay and tests: only the outside differs."""
    dispatch = LocalDispatch(clock)
    advance = Advance(ledger, dispatch, world, actions, clock, book.playbooks)
    tasks: set[asyncio.Task[None]] = set()
    parts: Parts

    async def reload() -> tuple[Finding, ...]:
        if read_again is None:
            return ()
        try:
            fresh = await offload(read_again)
        except ConfigError as error:
            telemetry.RELOADED.set(0)
            await ledger.note(
                Event("reload_refused", {"findings": [str(f) for f in error.findings]}), clock.now()
            )
            log.warning("the new rules are wrong; the old ones stay", findings=len(error.findings))
            return error.findings
        ingest.use(fresh.table)
        advance.use(fresh.playbooks, rebind(fresh) if rebind else None)
        parts.book = fresh
        telemetry.RELOADED.set(1)
        telemetry.RULES.set(len(fresh.table))
        await ledger.note(Event("reloaded", {"rules": len(fresh.table), "hash": fresh.hash}), clock.now())
        return ()

    ingest = Ingest(ledger, dispatch, world, clock, book.table, mode, lambda work: parts.spawn(work))
    episodes = OwnEpisodes(ledger, dispatch)
    starter = Starter(episodes, ledger, clock, mode)
    service = Service(ledger, ingest, advance, clock, reload, mode, starter)
    parts = Parts(
        ledger=ledger,
        clock=clock,
        dispatch=dispatch,
        ingest=ingest,
        advance=advance,
        service=service,
        outbox=Outbox(ledger, messenger, clock),
        episodes=episodes,
        book=book,
        tasks=tasks,
    )
    telemetry.RULES.set(len(book.table))
    telemetry.RELOADED.set(1)
    return parts
