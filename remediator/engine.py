"""One Docker engine, as the actions on Docker, Compose and emergency mode see it.

It stands beside `offload` because actions do not know each other. The docker client is imported at first use, in
the pool: it is heavy, and most services never speak to an engine. What fails while only looking is told apart from
what fails while something may have changed.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from remediator.containers import Container, container_of
from remediator.errors import (
    ActionError,
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    TemporaryFailure,
)
from remediator.offload import offload

R = TypeVar("R")

_LOOK_EVERY_SECONDS = 0.2
_SETTLED_AFTER_SECONDS = 1.0


class Engine:
    """A client of one engine. Its calls block, so they run on the pool."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        self.base_url = base_url
        self._timeout_seconds = timeout_seconds
        self._client: Any = None
        self._making = threading.Lock()

    async def look(self, call: Callable[[Any], R], missing: str) -> R:
        """Ask something that changes nothing. `call` gets docker's APIClient.

        Raises:
            NothingSelected: with `missing`, where the engine knows no such thing.
            TemporaryFailure: when it does not answer.
            PermanentFailure: when it refuses us.
        """

        def asking() -> R:
            with _looking(missing):
                return call(self._api())

        return await offload(asking)

    async def change(self, call: Callable[[Any], R], what: str) -> R:
        """Send one change; `what` completes "the engine refused to ...".

        Raises:
            Drifted: when its subject is gone.
            PermanentFailure: when it was refused.
            TemporaryFailure: when the engine was not even reached.
            OutcomeUnknown: when no answer came, or the engine failed on the way.
        """

        def doing() -> R:
            with _changing(what):
                return call(self._api())

        return await offload(doing)

    async def inspect(self, reference: str) -> Container:
        """The container of that name or id."""
        found = await self.look(
            lambda api: api.inspect_container(reference), f"there is no container {reference}"
        )
        return container_of(found)

    async def find(self, reference: str) -> Container | None:
        """As `inspect`, None where there is none."""
        try:
            return await self.inspect(reference)
        except NothingSelected:
            return None

    async def afterwards(self, id_: str, what: str) -> Container:
        """Look at a container that was just changed: what fails now is no proof that nothing was done.

        Raises:
            OutcomeUnknown: when it cannot be seen.
        """
        try:
            return await self.inspect(id_)
        except ActionError as error:
            raise OutcomeUnknown(f"after the engine was told to {what}: {error}") from error

    async def containers(self, *labels: str) -> tuple[Container, ...]:
        """All containers, running or not, that carry every one of the labels `key=value`; by name."""
        listed = await self.look(
            lambda api: api.containers(all=True, filters={"label": list(labels)}), "there are no containers"
        )
        found = [await self.find(one["Id"]) for one in listed]
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.name))

    async def start(self, container: Container) -> None:
        """Start it; one that runs is left alone."""
        await self.change(lambda api: api.start(container.id), f"start {container.name}")

    async def stop(self, container: Container, within_seconds: int) -> None:
        """Ask it to stop, and after so many seconds make it; one that is stopped is left alone."""
        await self.change(lambda api: api.stop(container.id, within_seconds), f"stop {container.name}")

    async def stop_all(self, containers: Sequence[Container], within_seconds: int) -> tuple[Container, ...]:
        """Stop all of them at once; what they are then.

        Raises:
            OutcomeUnknown: when not every one was stopped.
        """
        await _together("stop", [self.stop(one, within_seconds) for one in containers])
        after = [await self.afterwards(one.id, f"stop {one.name}") for one in containers]
        still = [one.name for one in after if one.active]
        if still:
            raise OutcomeUnknown(f"{', '.join(still)} was stopped and runs")
        return tuple(after)

    async def start_all(self, containers: Sequence[Container]) -> None:
        """Start all of them at once.

        Raises:
            OutcomeUnknown: when not every one was started.
        """
        await _together("start", [self.start(one) for one in containers])

    async def ready(self, container: Container, within_seconds: float) -> Container:
        """Wait until it is healthy or, where it has no health check, has run for a second.

        Raises:
            OutcomeUnknown: when it is not by then.
        """
        clock = asyncio.get_running_loop().time
        deadline, since, run = clock() + within_seconds, clock(), ""
        while True:
            seen = await self.afterwards(container.id, f"start {container.name}")
            if seen.started_at != run:
                since, run = clock(), seen.started_at
            if seen.status == "running" and seen.health == "healthy":
                return seen
            if seen.status == "running" and not seen.health and clock() - since >= _SETTLED_AFTER_SECONDS:
                return seen
            if clock() >= deadline:
                state = seen.status + (f", {seen.health}" if seen.health else "")
                raise OutcomeUnknown(f"{seen.name} was started and after {within_seconds:g} s is {state}")
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await offload(self._client.close)

    def _api(self) -> Any:
        self._reach()
        with self._making:
            if self._client is None:
                # Since Docker 29 there is no version that old and new engines both speak.
                self._client = self._speaking(self._spoken())
            return self._client

    def _spoken(self) -> str:
        asking = self._speaking("1.44")
        try:
            return str(asking.version(api_version=False)["ApiVersion"])
        finally:
            asking.close()

    def _speaking(self, version: str) -> Any:
        import docker

        timeout = max(1, round(self._timeout_seconds))
        return docker.APIClient(base_url=self.base_url, version=version, timeout=timeout)

    def _reach(self) -> None:
        """Connect and hang up: so we know that nothing was sent, and docker's client leaves no socket behind."""
        scheme, _, path = self.base_url.partition("://")
        if scheme != "unix":
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(self._timeout_seconds)
            try:
                probe.connect(path)
            except OSError as error:
                raise TemporaryFailure(f"the Docker engine does not answer at {path}: {error}") from error


async def _together(what: str, calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await all, also where some fail, and tell of every failure."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    for failure in failed:
        if not isinstance(failure, ActionError):
            raise failure
    if not failed:
        return
    if len(failed) == len(calls) and not any(isinstance(failure, OutcomeUnknown) for failure in failed):
        raise failed[0]
    told = "; ".join(str(failure) for failure in failed)
    raise OutcomeUnknown(f"{len(failed)} of {len(calls)} failed to {what}: {told}")


@contextmanager
def _looking(missing: str) -> Iterator[None]:
    import requests
    from docker.errors import APIError, DockerException, NotFound

    try:
        yield
    except NotFound as error:
        raise NothingSelected(missing) from error
    except APIError as error:
        if error.is_client_error():
            raise PermanentFailure(f"the Docker engine refuses us: {error.explanation}") from error
        raise TemporaryFailure(f"the Docker engine fails: {error.explanation}") from error
    except (DockerException, requests.RequestException) as error:
        raise TemporaryFailure(f"the Docker engine does not answer: {error}") from error


@contextmanager
def _changing(what: str) -> Iterator[None]:
    import requests
    from docker.errors import APIError, DockerException, NotFound

    try:
        yield
    except NotFound as error:
        raise Drifted(f"the engine cannot {what}: {error.explanation}") from error
    except APIError as error:
        if error.is_client_error():
            raise PermanentFailure(f"the engine refused to {what}: {error.explanation}") from error
        raise OutcomeUnknown(f"the engine failed to {what}: {error.explanation}") from error
    except (DockerException, requests.RequestException) as error:
        if _never_sent(error):
            raise TemporaryFailure(f"the Docker engine does not answer: {error}") from error
        raise OutcomeUnknown(f"the engine stopped answering when it was told to {what}") from error


def _never_sent(error: BaseException | None) -> bool:
    """Whether the connection itself could not be made."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False
