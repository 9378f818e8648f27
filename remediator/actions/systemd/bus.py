"""systemd over D-Bus: looking at units, and having them started, stopped and restarted.

What fails while only looking is told apart from what fails once a change was asked for. dbus-fast is imported at
first use. Every use has a line of its own, so that a bus that was restarted is no trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from remediator.actions.systemd.units import RUNS, Unit, unit_of
from remediator.errors import OutcomeUnknown, PermanentFailure, TemporaryFailure

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

Verb = Literal["restart", "stop", "start"]

_METHODS: dict[Verb, str] = {"restart": "RestartUnit", "stop": "StopUnit", "start": "StartUnit"}
_BUS, _NAME, _PATH = "org.freedesktop.DBus", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_LOOK_EVERY_SECONDS = 0.1
_PULLED_DOWN_BY = ("RequiredBy", "BoundBy", "ConsistsOf")

_REFUSED = (
    f"{_BUS}.Error.AccessDenied",
    f"{_BUS}.Error.InteractiveAuthorizationRequired",
    f"{_BUS}.Error.AuthFailed",
)
_SILENT = (f"{_BUS}.Error.NoReply", f"{_BUS}.Error.Disconnected", f"{_BUS}.Error.Timeout")
_BUSY = (
    f"{_NAME}.TransactionIsDestructive",
    f"{_NAME}.TransactionJobsConflicting",
    f"{_BUS}.Error.LimitsExceeded",
    f"{_NAME}.ShuttingDown",
)


class _Lost(Exception):
    """The line broke, or nobody answered in time."""


class Systemd:
    """A line to one systemd, for one use of an action."""

    def __init__(self, bus: MessageBus, timeout_seconds: float) -> None:
        self._bus, self._timeout_seconds = bus, timeout_seconds
        self._ended: dict[str, str] = {}
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def reached(cls, address: str, timeout_seconds: float) -> AsyncIterator[Self]:
        """Connect, and hang up at the end.

        Raises:
            PermanentFailure: when the bus does not let us in.
            TemporaryFailure: when nobody answers there.
        """
        from dbus_fast.aio import MessageBus
        from dbus_fast.errors import AuthError

        bus = MessageBus(bus_address=address)
        try:
            async with asyncio.timeout(timeout_seconds):
                await bus.connect()
        except PermissionError as error:
            raise PermanentFailure(f"we may not use {address}: {error.strerror}") from error
        except AuthError as error:
            raise PermanentFailure(f"the bus at {address} does not let us in: {error}") from error
        except (OSError, EOFError, TimeoutError) as error:
            raise TemporaryFailure(f"nobody answers at {address}: {error}") from error
        try:
            yield cls(bus, timeout_seconds)
        finally:
            bus.disconnect()
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast left it untyped

    async def unit(self, name: str) -> Unit:
        """Look at a unit, and at the running ones that a change of it would touch.

        Raises:
            PermanentFailure: when systemd refuses us.
            TemporaryFailure: when it does not answer.
        """
        try:
            return await self._unit(name)
        except _Lost as error:
            raise TemporaryFailure(f"systemd does not answer: {error}") from error

    async def afterwards(self, name: str, what: str) -> Unit:
        """Look at a unit once a change was asked for: when that fails the outcome is unknown."""
        try:
            return await self._unit(name)
        except (_Lost, PermanentFailure, TemporaryFailure) as error:
            raise OutcomeUnknown(
                f"{what} was asked of {name}, and systemd stopped answering: {error}"
            ) from error

    async def do(self, verb: Verb, name: str, within_seconds: float) -> str:
        """Queue a job and await its end: `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped`; or `running`.

        A job of somebody else that this one would cancel wins: then nothing is changed.

        Raises:
            PermanentFailure: when systemd refuses the job.
            TemporaryFailure: when another job stands in its way, or systemd is lost before anything was asked.
            OutcomeUnknown: when systemd is lost once it was asked.
        """
        try:
            await self._listen()
        except _Lost as error:
            raise TemporaryFailure(f"systemd does not answer: {error}") from error
        try:
            (job,) = await self._manager(_METHODS[verb], "ss", [name, "fail"])
            return await self._end_of(job, within_seconds)
        except _Lost as error:
            raise OutcomeUnknown(f"systemd was lost at the {verb} of {name}: {error}") from error

    async def steady(self, name: str, within_seconds: float, steady_seconds: float, *, unlike: str) -> Unit:
        """Wait until a unit runs, in another run than `unlike`, and has done so for `steady_seconds`.

        Raises:
            OutcomeUnknown: when it does not within the time.
        """
        loop = asyncio.get_running_loop()
        deadline, since, run = loop.time() + within_seconds, loop.time(), ""
        while True:
            seen = await self.afterwards(name, "a start")
            now = loop.time()
            well = seen.runs and not seen.job and seen.invocation != unlike
            if not well or seen.invocation != run:
                since, run = now, seen.invocation if well else ""
            if well and now - since >= steady_seconds:
                return seen
            if now >= deadline or seen.active == "failed":
                raise OutcomeUnknown(
                    f"{name} was started and is {seen.told}; it was to run for {steady_seconds:g} s without a break"
                )
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _listen(self) -> None:
        rule = f"type='signal',sender='{_NAME}',path='{_PATH}',member='JobRemoved'"
        self._bus.add_message_handler(self._heard)
        await self._call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", [rule])
        await self._manager("Subscribe")

    def _heard(self, message: Message) -> None:
        if message.member == "JobRemoved" and message.path == _PATH:
            _, job, _, result = message.body
            self._ended[job] = result
            self._news.set()

    async def _end_of(self, job: str, within_seconds: float) -> str:
        deadline = asyncio.get_running_loop().time() + within_seconds
        while job not in self._ended:
            if not self._bus.connected:
                raise _Lost("the line was cut while its job ran")
            if asyncio.get_running_loop().time() >= deadline:
                return "running"
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_EVERY_SECONDS)
        return self._ended[job]

    async def _unit(self, name: str) -> Unit:
        path, shown = await self._shown(name)
        service = await self._properties(path, "Service") if name.endswith(".service") else {}
        number, job = shown["Job"]
        seen = unit_of(name, shown, service, (await self._job(job)) if number else "")
        return replace(
            seen,
            dependents=await self._dependents(name, shown),
            conflicts=await self._running(shown["Conflicts"]),
            triggers=await self._running(shown["TriggeredBy"]),
        )

    async def _dependents(self, name: str, shown: dict[str, Any]) -> tuple[str, ...]:
        """Every running unit that goes down with it, directly or by another one."""
        found: set[str] = set()
        due = [shown]
        while due:
            about = due.pop()
            below = {one for kind in _PULLED_DOWN_BY for one in about[kind]} - found - {name}
            for one in await self._running(below):
                found.add(one)
                due.append((await self._shown(one))[1])
        return tuple(sorted(found))

    async def _running(self, names: Iterable[str]) -> tuple[str, ...]:
        wanted = sorted(names)
        if not wanted:
            return ()
        (rows,) = await self._manager("ListUnitsByNames", "as", [wanted])
        return tuple(sorted(row[0] for row in rows if row[3] in (*RUNS, "activating")))

    async def _shown(self, name: str) -> tuple[str, dict[str, Any]]:
        (path,) = await self._manager("LoadUnit", "s", [name])
        return path, await self._properties(path, "Unit")

    async def _job(self, path: str) -> str:
        """What kind of job it is; it may have ended by now."""
        try:
            found = await self._properties(path, "Job")
        except PermanentFailure:
            return ""
        return f"{found['JobType']} {found['State']}"

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        whole = f"{_NAME}.{interface}"
        (found,) = await self._call(_NAME, path, f"{_BUS}.Properties", "GetAll", "s", [whole])
        return {key: variant.value for key, variant in found.items()}

    async def _manager(self, member: str, signature: str = "", body: Sequence[Any] = ()) -> list[Any]:
        return await self._call(_NAME, _PATH, f"{_NAME}.Manager", member, signature, body)

    async def _call(
        self, to: str, path: str, interface: str, member: str, signature: str = "", body: Sequence[Any] = ()
    ) -> list[Any]:
        """One call and its answer.

        Raises:
            PermanentFailure: when it is refused.
            TemporaryFailure: when it is refused for now.
            _Lost: when no answer came.
        """
        from dbus_fast import Message, MessageType

        asked = Message(
            destination=to,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._bus.call(asked)
        except TimeoutError as error:
            raise _Lost(f"no answer to {member} within {self._timeout_seconds:g} s") from error
        except (OSError, EOFError) as error:
            raise _Lost(f"the line was cut at {member}: {error}") from error
        if answer is None or not self._bus.connected:
            raise _Lost(f"the line was cut at {member}")
        if answer.message_type is not MessageType.ERROR:
            return list(answer.body)
        raise _refusal(member, answer.error_name or "", str(answer.body[0]) if answer.body else "")


def _refusal(member: str, name: str, text: str) -> Exception:
    told = f"{member}: {text or name}"
    if name in _SILENT:
        return _Lost(told)
    if name in _BUSY:
        return TemporaryFailure(f"not now: {told}")
    if name in _REFUSED:
        return PermanentFailure(f"we are not allowed to: {told}")
    if name == f"{_BUS}.Error.ServiceUnknown":
        return TemporaryFailure(f"systemd is not on this bus: {told}")
    return PermanentFailure(f"systemd refused {told}")
