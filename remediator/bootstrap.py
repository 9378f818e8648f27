"""The composition root: the only module that knows every adapter."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from pydantic import BaseModel, SecretStr

from remediator import __version__, telemetry
from remediator.adapters import registry
from remediator.adapters.anchors import AnchorFile
from remediator.adapters.clock import WallClock
from remediator.adapters.ledger import SqlLedger
from remediator.adapters.rulebook import RuleBook
from remediator.adapters.rulefiles import load_rulebook
from remediator.adapters.world import HttpWorld
from remediator.assembly import Parts, assemble
from remediator.domain.approvals import Person
from remediator.pipeline.housekeeping import Housekeeping
from remediator.pipeline.ports import Actions, Clock, Messenger, World
from remediator.pipeline.schedule import Scheduler
from remediator.redaction import Redactor
from remediator.settings import Settings
from remediator.web.app import make_app, set_up
from remediator.web.auth import Account, People
from remediator.web.config import WebConfig

if TYPE_CHECKING:
    from remediator.adapters.slack import SlackMessenger

log = structlog.get_logger()


def load_book(settings: Settings) -> RuleBook:
    """Rules and playbooks, checked against each other, the people, and the installed actions.

    Raises:
        ConfigError: with everything that is wrong.
    """
    approvers = {name for person in settings.people for name in (person.name, *person.groups)}
    return load_rulebook(
        settings.paths.rules,
        settings.paths.playbooks,
        registry.ParamsModels(),
        registry.ConnectionModels(),
        approvers or None,
    )


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def people_of(settings: Settings) -> People:
    """Who may sign in, approve and click, as configuration lists them."""
    return People(
        Account(Person(listed.name, frozenset(listed.groups)), _secret(listed.token), listed.slack)
        for listed in settings.people
    )


@asynccontextmanager
async def running(
    settings: Settings, book: RuleBook, ledger_class: type[SqlLedger] = SqlLedger
) -> AsyncIterator[tuple[Parts, str]]:
    """The whole service, serving. Yields its parts and the address that it listens at."""
    clock = WallClock()
    async with AsyncExitStack() as stack:
        anchors = AnchorFile(settings.journal.anchor_file) if settings.journal.anchor_file else None
        ledger = ledger_class.open(settings.ledger.url, clock)
        stack.push_async_callback(ledger.close)
        outside = _recorded(settings.recording, clock) if settings.recording else _real(settings)
        stack.push_async_callback(outside.world.close)
        redact = Redactor(secrets_of(settings))
        people = people_of(settings)
        slack = _slack(settings, book, people, redact)
        messenger: Messenger = slack or _console(redact, settings.server.public_url or "")
        stack.push_async_callback(messenger.close)
        parts = assemble(
            book,
            mode=settings.mode,
            ledger=ledger,
            clock=clock,
            world=outside.world,
            actions=outside.bind(book),
            messenger=messenger,
            read_again=lambda: load_book(settings),
            rebind=outside.bind,
        )
        stack.push_async_callback(parts.advance.close)
        telemetry.BUILD.labels(__version__, settings.mode.value).set(1)
        recovered = await parts.advance.recover()
        log.info("recovered", unfinished=recovered)
        if slack is not None:
            await slack.start(parts.service)
        keeper = Housekeeping(ledger, parts.dispatch, clock, anchors.append if anchors else None)
        scheduler = Scheduler(
            ledger,
            parts.episodes,
            clock,
            settings.mode,
            # A recording is played as it was; what is due by the clock today is no part of it.
            lambda: () if settings.recording else parts.book.schedules,
        )
        for work in (
            parts.dispatch.run(parts.advance.run),
            parts.outbox.run(),
            keeper.run(),
            scheduler.run(),
        ):
            stack.push_async_callback(_stop, asyncio.create_task(work))
        stack.push_async_callback(_finish, parts)
        interactions = slack if slack is not None and not settings.slack.app_token else None
        app = make_app(parts.service, _web_config(settings, redact), people, interactions)
        address = await _listen(app, settings, stack)
        parts.service.be("")
        telemetry.READY.set(1)
        log.info(
            "serving", address=address, mode=settings.mode.value, rules=len(book.table), version=__version__
        )
        if outside.feed is not None:
            parts.spawn(outside.feed(parts))
        try:
            yield parts, address
        finally:
            parts.service.be("stopping")
            telemetry.READY.set(0)


async def serve(
    settings: Settings,
    book: RuleBook,
    ready: Callable[[Parts, str], None] | None = None,
    ledger_class: type[SqlLedger] = SqlLedger,
) -> None:
    """Serve until a signal says to stop. SIGHUP reads the rules again."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with running(settings, book, ledger_class) as (parts, address):
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: parts.spawn(_reload(parts)))
        if ready is not None:
            ready(parts, address)
        _spare_the_collector()
        await stopped.wait()


def _spare_the_collector() -> None:
    """What is loaded now stays: walking all of it at every collection took a third of the time of a post."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _reload(parts: Parts) -> None:
    for finding in await parts.service.reload():
        log.error("not reloaded", finding=str(finding))


@dataclass(frozen=True, slots=True)
class Outside:
    """What the pipeline acts on and asks: the real one, or a recording's, which also feeds its posts in."""

    world: World
    bind: Callable[[RuleBook], Actions]
    feed: Callable[[Parts], Awaitable[None]] | None = None


def _real(settings: Settings) -> Outside:
    prometheus, alertmanager = settings.prometheus, settings.alertmanager
    world = HttpWorld(
        prometheus.url,
        alertmanager.url,
        timeout_seconds=max(prometheus.timeout_seconds, alertmanager.timeout_seconds),
        prometheus_token=_secret(prometheus.bearer_token),
        alertmanager_token=_secret(alertmanager.bearer_token),
    )
    return Outside(world, lambda book: registry.BoundActions(_connections(book)))


# What only some need is imported where it is needed: starting is quick, and what is not used takes no memory.


def _recorded(path: Path, clock: Clock) -> Outside:
    from remediator.adapters import cassettes
    from remediator.adapters.recorded import RecordedActions, RecordedWorld

    cassette = cassettes.read(path).shifted(clock.now())

    async def feed(parts: Parts) -> None:
        """Play the posts in, in the time that they took, as if Alertmanager had sent them."""
        for delivery in cassette.deliveries:
            wait = (delivery.at - clock.now()).total_seconds()
            if wait > 0:
                await clock.sleep(wait)
            await parts.service.ingest(cassettes.body(delivery), f"recording {cassette.name}")

    world = RecordedWorld(cassette, clock)
    return Outside(world, lambda book: RecordedActions(cassette, _connections(book)), feed)


def _connections(book: RuleBook) -> dict[str, Mapping[str, BaseModel]]:
    return {name: system.connections for name, system in book.systems.items()}


def _console(redact: Redactor, page: str) -> Messenger:
    from remediator.adapters.console import ConsoleMessenger

    return ConsoleMessenger(redact=redact, page=page)


def _slack(settings: Settings, book: RuleBook, people: People, redact: Redactor) -> SlackMessenger | None:
    slack = settings.slack
    if slack.bot_token is None:
        return None
    from remediator.adapters.slack import SlackMessenger
    from remediator.adapters.slack_client import SlackConfig

    contacts = {
        name: contact.slack
        for system in book.systems.values()
        for name, contact in system.contacts.items()
        if contact.slack
    }
    return SlackMessenger(
        SlackConfig(
            bot_token=_secret(slack.bot_token),
            channel=slack.channel,
            signing_secret=_secret(slack.signing_secret),
            app_token=_secret(slack.app_token),
            people=people.by_slack,
            contacts=contacts,
            page=settings.server.public_url or "",
            base_url=slack.base_url,
            redact=redact,
        )
    )


def secrets_of(settings: Settings) -> list[str]:
    """Every secret value of the settings, to be hidden wherever it would show."""
    found: list[str] = []

    def walk(value: object) -> None:
        if hasattr(value, "get_secret_value"):
            found.append(value.get_secret_value())
        elif isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, (tuple, list)):
            for inner in value:
                walk(inner)
        elif hasattr(value, "__pydantic_fields__"):
            for name in value.__pydantic_fields__:
                walk(getattr(value, name))

    walk(settings)
    return found


def _web_config(settings: Settings, redact: Redactor) -> WebConfig:
    webhook = settings.server.webhook
    return WebConfig(
        mode=settings.mode,
        webhook_tokens=(_secret(webhook.bearer_token),) if webhook.bearer_token else (),
        webhook_users={name: hash_.get_secret_value() for name, hash_ in webhook.basic_users.items()},
        allow_unauthenticated=settings.server.allow_unauthenticated,
        body_limit=settings.server.body_limit_bytes,
        redact=redact,
        public_url=settings.server.public_url or "",
        session_key=_secret(settings.server.session_key).encode(),
    )


async def _listen(app: web.Application, settings: Settings, stack: AsyncExitStack) -> str:
    runner = await set_up(app)
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.server.host, settings.server.port, backlog=1024)
    await site.start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _finish(parts: Parts) -> None:
    for task in list(parts.tasks):
        await _stop(task)
