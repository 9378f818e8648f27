"""What the pipeline needs of the outside, as protocols. Adapters and actions implement them; bootstrap joins them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel

from remediator.domain.alerts import Alert, Labels
from remediator.domain.events import Entry, Event
from remediator.domain.guards import Facts
from remediator.domain.plans import Effect, Progress, Result
from remediator.domain.remediations import Phase, Remediation, Transition

P = TypeVar("P", bound=BaseModel, contravariant=True)
S = TypeVar("S")


class Clock(Protocol):
    """The one source of time. Everything is UTC."""

    def now(self) -> datetime:
        """The time now."""

    async def sleep(self, seconds: float) -> None:
        """Wait; a virtual clock only moves its hands."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """The least privilege of one use of an action, in the words of each system that enforces it."""

    redis: tuple[str, ...] = ()
    """ACL rules: commands and key patterns, such as `+scan` or `~seg:*`."""
    postgres: tuple[str, ...] = ()
    """GRANT statements without the grantee, such as `SELECT ON TABLE events`."""
    kubernetes: tuple[Mapping[str, Any], ...] = ()
    """RBAC rules: namespace, apiGroups, resources, resourceNames, verbs."""
    iam: tuple[Mapping[str, Any], ...] = ()
    """IAM statements: Action and Resource."""
    docker: tuple[str, ...] = ()
    """Engine API calls, such as `POST /containers/{id}/restart`."""
    systemd: tuple[Mapping[str, str], ...] = ()
    """polkit details: action id, unit, verb."""
    files: tuple[str, ...] = ()
    """Paths and how they are used, such as `rw /var/cache/x`."""
    http: tuple[str, ...] = ()
    """Method and URL."""
    other: tuple[str, ...] = ()
    """What no server enforces for us, in words."""


class Action(Protocol[P, S]):
    """A capability on one kind of system, bound to one connection. docs/actions.md says how to add one.

    `observe` only reads. `plan` is pure. `apply` does one effect and raises `Drifted` when what it sees is not
    what was planned; a second apply of the same effect changes nothing. `undo` restores what `apply` changed,
    from the effect and from what apply captured.
    """

    kind: ClassVar[str]
    idempotent: ClassVar[bool]
    Params: ClassVar[type[BaseModel]]
    Connection: ClassVar[type[BaseModel]]

    async def observe(self, params: P) -> S:
        """Look, and change nothing."""

    def plan(self, params: P, seen: S) -> tuple[Effect, ...]:
        """What would change, in figures. Raises NothingSelected where that is nothing."""

    async def apply(self, effect: Effect) -> Result:
        """Do it."""

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Take it back. Raises Refused where the effect says that nothing can."""

    def progress(self, effect: Effect, seen: S) -> Progress:
        """After an interruption: was it done? Pure."""

    def permissions(self, params: P) -> Permissions:
        """What this use of it needs."""

    async def close(self) -> None:
        """Let the connection go."""


class Actions(Protocol):
    """The actions that this service may use, each bound to a named connection of a system's file."""

    def get(self, kind: str, system: str, connection: str) -> Action[Any, Any]:
        """The action on that connection. Raises Refused where configuration names no such connection."""

    async def close(self) -> None:
        """Let all connections go."""


class World(Protocol):
    """What Prometheus and Alertmanager say. Raises WorldUnavailable where nobody answers."""

    async def firing(self, labels: Labels) -> bool:
        """Whether Prometheus says that the alert with these labels is firing now."""

    async def muted(self, labels: Labels, remediation: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The ids of what silences it and of what inhibits it, from Alertmanager.

        The silence that `remediation` made itself, while it acts, is left out.
        """

    async def sample(self, expr: str) -> tuple[bool | None, str]:
        """Whether the expression returns samples: None where it has no data to judge by; and them, as text."""

    async def alerts(self, group_labels: Labels) -> tuple[Alert, ...]:
        """The active alerts of a group, for a notification that was cut short."""

    async def close(self) -> None:
        """Let the connections go."""


class Delivery(NamedTuple):
    """One webhook post as it came. `source` is the sender's address or the recording's name."""

    body: bytes
    received_at: datetime
    source: str = ""
    rejected: str = ""
    """Why it can never work; then it is only kept for inspection."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One alert of a delivery, with the remediations it would start if this episode is new to their rules."""

    alert: Alert
    drafts: tuple[Remediation, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a delivery changed once it was committed."""

    started: tuple[str, ...] = ()
    """Ids of the remediations that it began."""
    resolved: tuple[str, ...] = ()
    """Ids of the active remediations whose episode it closed."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell people. `card` is a remediation's one message, kept up to date; `escalation` calls."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of the outbox that is due. `ref` names what was posted before for the same remediation."""

    id: int
    remediation: Remediation
    message: Message
    ref: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A remediation with what the ledger knows of its episode."""

    remediation: Remediation
    resolved: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Switch:
    """Something a person turned on: `pause` or `kill`, for everything (`scope` "") or a system or rule."""

    name: str
    scope: str
    reason: str
    by: str
    at: datetime


Settle = Callable[[Facts], tuple[Transition, Sequence[Message]]]
"""Judges the completed facts and decides; pure, because it runs inside a transaction that may be tried again."""


class Ledger(Protocol):
    """The one truth. Every call is one transaction; concurrent calls share a commit. Raises LedgerUnavailable."""

    def accept(self, delivery: Delivery, sightings: Sequence[Sighting] = ()) -> Awaitable[Accepted]:
        """Keep a delivery, its episodes and the remediations it begins; each (rule, episode) only once."""

    async def load(self, id_: str) -> Loaded:
        """One remediation. Raises KeyError where there is none."""

    async def write(
        self, transition: Transition, now: datetime, messages: Sequence[Message] = ()
    ) -> Remediation:
        """Write a transition, its events and its messages. A final one gives up its claim.

        Raises:
            StaleWrite: when the remediation was moved since `transition` was decided.
        """

    async def reserve(self, remediation: Remediation, facts: Facts, settle: Settle) -> Remediation:
        """Complete the facts, settle, reserve the run, claim the subject and write, all in one transaction.

        The run is reserved when the transition settled on is into `judged`; the subject is claimed where the
        rung acts (a dry run claims nothing).

        Raises:
            StaleWrite: when the remediation was moved meanwhile.
        """

    async def facts(self, remediation: Remediation, facts: Facts) -> Facts:
        """The facts completed with what the ledger counts, leaving this remediation itself out."""

    async def unfinished(self) -> tuple[Remediation, ...]:
        """Everything that is not final: what dispatch is rebuilt from at start."""

    async def list(
        self, *, phases: Sequence[Phase] = (), system: str = "", limit: int = 100
    ) -> tuple[Remediation, ...]:
        """The newest first."""

    async def outbox(self, now: datetime, limit: int = 20) -> tuple[Outgoing, ...]:
        """Messages that are due, oldest first."""

    async def sent(self, id_: int, ref: str) -> None:
        """It was delivered as `ref`."""

    async def unsent(self, id_: int, retry_at: datetime, error: str) -> None:
        """It was not; try again then."""

    async def switch(self, switch: Switch) -> None:
        """Turn one on."""

    async def unswitch(self, name: str, scope: str, by: str, now: datetime) -> bool:
        """Turn one off; False where it was not on."""

    async def switches(self) -> tuple[Switch, ...]:
        """Those that are on."""

    async def note(self, event: Event, now: datetime, remediation: str = "") -> None:
        """Journal something that is no transition: a reload, a refused login, a switch."""

    async def journal(self, *, remediation: str = "", after: int = 0, limit: int = 1000) -> tuple[Entry, ...]:
        """Entries in order."""

    async def head(self) -> tuple[int, str]:
        """The last journal entry's number and hash; number 0 where there is none."""

    async def deliveries(self, *, episode: str = "", limit: int = 100) -> tuple[Delivery, ...]:
        """What was received, oldest first; of one episode where it is named."""

    async def firing(self) -> tuple[tuple[Labels, datetime], ...]:
        """Since when the open episodes fire: the oldest of each alertname, system, severity and response class."""

    async def close(self) -> None:
        """Finish what was begun and let the database go."""


class Messenger(Protocol):
    """A place where people are told and asked. Raises DeliveryFailed."""

    async def deliver(self, outgoing: Outgoing) -> str:
        """Post it, or update what `ref` names; returns the reference for the next update."""

    async def close(self) -> None:
        """Let the connection go."""


class Dispatch(Protocol):
    """Wakes a remediation at a time. A wake may be lost or doubled; the ledger decides."""

    def wake(self, id_: str, at: datetime | None = None) -> None:
        """Have it advanced then, or now."""
