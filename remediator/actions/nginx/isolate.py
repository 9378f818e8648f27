"""nginx.isolate: emergency mode. Services are stopped, a static page is all that answers, and that is proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.nginx.connection import NginxAction, same_content
from remediator.actions.nginx.site import OTHER, SeenSite
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions


class IsolateParams(BaseModel):
    """Parameters of `nginx.isolate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    stop_timeout_seconds: int = Field(default=10, ge=0, le=300, description="before a service is killed")
    proof_seconds: int = Field(
        default=30, ge=1, le=300, description="in which the page has to answer, and nothing else"
    )


@dataclass(frozen=True, slots=True)
class SeenService:
    """The site, the services that are there, the names of those that are not, and what speaks against isolation."""

    site: SeenSite
    containers: tuple[Container, ...]
    missing: tuple[str, ...]
    not_isolated: tuple[str, ...]

    @property
    def active(self) -> dict[str, str]:
        """Since when each service that runs does, by id."""
        return {one.id: one.started_at for one in self.containers if one.active}


class Isolate(NginxAction):
    """Stop the services, let nginx serve a static page only, and prove from outside that nothing else answers."""

    kind: ClassVar[str] = "nginx.isolate"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = IsolateParams

    async def observe(self, params: IsolateParams) -> SeenService:
        """Read the site, the services, and what answers."""
        site = await self._site.look()
        containers = await self._containers()
        there = {one.name for one in containers}
        return SeenService(
            site=site,
            containers=containers,
            missing=tuple(name for name in self._connection.containers if name not in there),
            not_isolated=await self._outside.not_isolated(),
        )

    def plan(self, params: IsolateParams, seen: SeenService) -> tuple[Effect, ...]:
        """One effect: these services stop and the site becomes the static page."""
        if seen.site.mode == OTHER:
            raise Refused(
                f"{self._connection.active_link} points to neither of the two configurations; it is not ours to switch"
            )
        if seen.site.mode == "emergency" and not seen.active and not seen.not_isolated:
            raise NothingSelected(f"{self._subject} is isolated already")
        stopping = [one.name for one in seen.containers if one.active]
        missing = f"; not there: {', '.join(seen.missing)}" if seen.missing else ""
        back = [one.name for one in seen.containers if one.active and one.comes_back]
        again = f"; {', '.join(back)} would start again with the engine" if back else ""
        return (
            Effect(
                action=self.kind,
                subject=self._subject,
                params=params.model_dump(mode="json"),
                summary=f"emergency mode for {self._connection.page_url}: stop {len(stopping)} services "
                f"({', '.join(stopping) or 'none runs'}), serve {self._connection.emergency_file.name} only"
                f"{missing}{again}",
                before={
                    "mode": seen.site.mode,
                    "sha256": seen.site.sha256["emergency"],
                    "containers": seen.active,
                },
                after={"mode": "emergency", "containers": {}},
                figures={"services": len(stopping), "missing": len(seen.missing)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Switch, stop, reload and prove, each where it is not done already."""
        params = IsolateParams.model_validate(effect.params)
        seen = await self.observe(params)
        same_content(effect.before, seen.site.sha256["emergency"])
        if seen.site.mode == "emergency" and not seen.active and not seen.not_isolated:
            return Result(f"{self._subject} is isolated already", changed=False)
        if seen.site.mode not in (effect.before["mode"], "emergency"):
            raise Drifted(
                f"{self._connection.active_link} points to another configuration than was planned on"
            )
        planned = effect.before["containers"]
        others = [one.name for one in seen.containers if one.active and planned.get(one.id) != one.started_at]
        if others:
            raise Drifted(f"{', '.join(others)} was started since it was planned")
        # Tested before anything is stopped: where nginx refuses it, nothing has changed.
        await self._site.switch("emergency")
        stopped = await self._finish(params, [one for one in seen.containers if one.active])
        told = await self._outside.proven(params.proof_seconds)
        if told:
            raise OutcomeUnknown(f"isolation is not proven: {'; '.join(told)}")
        return Result(
            f"{self._subject} is isolated: stopped {', '.join(one.name for one in stopped) or 'nothing'}; only the "
            f"static page answers, {len(self._connection.silent_urls)} probes are silent",
            evidence={
                "stopped": {one.name: one.finished_at for one in stopped},
                "silent": list(self._connection.silent_urls),
            },
            captured={"stopped": [one.name for one in stopped]},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Never by itself: a containment is lifted by people."""
        raise Refused(
            "emergency mode is left with nginx.leave_emergency, which two people approve; never by itself"
        )

    def progress(self, effect: Effect, seen: SeenService) -> Progress:
        """Done where it is proven, untouched where the services run and the site serves as before."""
        if seen.site.mode == "emergency" and not seen.active:
            return Progress.UNCLEAR if seen.not_isolated else Progress.DONE
        before = effect.before
        same = seen.site.mode == before["mode"] and seen.active == before["containers"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: IsolateParams) -> Permissions:
        """Stopping the listed containers, switching one link, testing and signalling nginx, and probing."""
        named = self._connection
        reads = tuple(f"GET /containers/{name}/json" for name in named.containers)
        return Permissions(
            docker=(
                "GET /version",
                *reads,
                "GET /containers/{id}/json",
                "POST /containers/{id}/stop",
            ),
            files=self._files,
            http=tuple(
                f"GET {url}" for url in (named.page_url, *named.silent_urls) if not url.startswith("tcp:")
            ),
            other=(f"{named.binary} -t", "SIGHUP to the master process of nginx"),
        )

    async def _finish(self, params: IsolateParams, stopping: list[Container]) -> tuple[Container, ...]:
        """Stop and reload: what one of them fails at must not keep the other from being done."""
        failures: list[ActionError] = []
        try:
            await self._site.reload()
        except ActionError as error:
            failures.append(error)
        stopped: tuple[Container, ...] = ()
        try:
            stopped = await self._engine.stop_all(stopping, params.stop_timeout_seconds)
        except ActionError as error:
            failures.append(error)
        if failures:
            raise OutcomeUnknown(f"emergency mode is entered in part: {'; '.join(map(str, failures))}")
        return stopped
