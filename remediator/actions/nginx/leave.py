"""nginx.leave_emergency: start the services again, see them healthy, and only then let nginx serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.nginx.connection import ContainerName, NginxAction, same_content
from remediator.actions.nginx.site import SeenSite
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions


class LeaveEmergencyParams(BaseModel):
    """Parameters of `nginx.leave_emergency`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    containers: tuple[ContainerName, ...] = Field(
        min_length=1,
        max_length=50,
        description="what is started again, of those that the connection lists; an empty list never means all",
    )
    ready_seconds: int = Field(
        default=120, ge=2, le=600, description="in which each of them has to be healthy"
    )
    stop_timeout_seconds: int = Field(
        default=10, ge=0, le=300, description="before a service is killed, when this is undone"
    )
    proof_seconds: int = Field(
        default=30, ge=1, le=300, description="in which something else than the static page has to answer"
    )


@dataclass(frozen=True, slots=True)
class SeenEmergency:
    """The site, and the containers that are to be started."""

    site: SeenSite
    containers: tuple[Container, ...]

    @property
    def runs(self) -> dict[str, str]:
        """Of each, since when it has run, or when it began its last run, by id."""
        return {one.id: one.started_at for one in self.containers}


class LeaveEmergency(NginxAction):
    """Start the services one by one, wait until each is healthy, and let nginx serve them again."""

    kind: ClassVar[str] = "nginx.leave_emergency"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = LeaveEmergencyParams

    async def observe(self, params: LeaveEmergencyParams) -> SeenEmergency:
        """Read the site and the services."""
        listed = self._connection.containers
        for name in params.containers:
            if name not in listed:
                raise Refused(f"{name} is not among the containers of the connection ({', '.join(listed)})")
        in_order = [name for name in listed if name in params.containers]
        found = tuple([await self._engine.inspect(name) for name in in_order])
        return SeenEmergency(await self._site.look(), found)

    def plan(self, params: LeaveEmergencyParams, seen: SeenEmergency) -> tuple[Effect, ...]:
        """One effect: these services start, and the site serves again."""
        if seen.site.mode != "emergency":
            raise NothingSelected(f"{self._subject} is not in emergency mode ({seen.site.mode})")
        starting = [one.name for one in seen.containers if not one.active]
        return (
            Effect(
                action=self.kind,
                subject=self._subject,
                params=params.model_dump(mode="json"),
                summary=f"leave emergency mode for {self._connection.page_url}: start {len(starting)} services "
                f"({', '.join(starting) or 'all run'}), then serve {self._connection.normal_file.name}",
                before={
                    "mode": "emergency",
                    "sha256": seen.site.sha256["normal"],
                    "containers": seen.runs,
                },
                after={"mode": "normal"},
                figures={"services": len(starting)},
                undo="back to the static page, and stop again what was started",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Start, wait, switch, reload, and see that something else than the page answers."""
        params = LeaveEmergencyParams.model_validate(effect.params)
        seen = await self.observe(params)
        same_content(effect.before, seen.site.sha256["normal"])
        if seen.site.mode == "normal" and all(one.active for one in seen.containers):
            return Result(f"{self._subject} serves already", changed=False)
        if seen.site.mode != "emergency":
            raise Drifted(f"{self._subject} is not in emergency mode any more ({seen.site.mode})")
        self._check(effect, seen)
        # Tested before anything is started: where nginx refuses it, nothing has changed.
        await self._site.check("normal")
        started: list[Container] = []
        for one in seen.containers:
            started.append(await self._started(one, params.ready_seconds, bool(started)))
        await self._serve(params)
        return Result(
            f"{self._subject} serves again: {', '.join(one.name for one in started)} is healthy",
            evidence={"started": {one.name: one.started_at for one in started}},
            captured={
                "runs": {one.id: one.started_at for one in started},
                "was": effect.before["containers"],
            },
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Back to the static page at once; then stop what was started, where it is still that run."""
        params = LeaveEmergencyParams.model_validate(effect.params)
        seen = await self.observe(params)
        ours = {
            id_: run for id_, run in result.captured["runs"].items() if result.captured["was"].get(id_) != run
        }
        stopping = [one for one in seen.containers if one.active and ours.get(one.id) == one.started_at]
        if seen.site.mode == "emergency" and not stopping:
            return Result(f"{self._subject} is in emergency mode already", changed=False)
        await self._site.switch("emergency")
        try:
            await self._site.reload()
            await self._engine.stop_all(stopping, params.stop_timeout_seconds)
        except ActionError as error:
            raise OutcomeUnknown(f"emergency mode is entered in part: {error}") from error
        against = await self._outside.no_page(params.proof_seconds)
        if against:
            raise OutcomeUnknown(f"the static page does not answer alone: {against[0]}")
        told = ", ".join(one.name for one in stopping) or "nothing"
        return Result(f"{self._subject} is in emergency mode again; stopped {told}")

    def progress(self, effect: Effect, seen: SeenEmergency) -> Progress:
        """Done where the site serves and the services are well."""
        well = all(one.status == "running" and one.health in ("", "healthy") for one in seen.containers)
        if seen.site.mode == "normal":
            return Progress.DONE if well else Progress.UNCLEAR
        same = seen.site.mode == "emergency" and seen.runs == effect.before["containers"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: LeaveEmergencyParams) -> Permissions:
        """Starting the containers, stopping them as the undo does, one link, testing and signalling nginx."""
        named = self._connection
        reads = tuple(f"GET /containers/{name}/json" for name in params.containers)
        changes = ("POST /containers/{id}/start", "POST /containers/{id}/stop")
        return Permissions(
            docker=("GET /version", *reads, "GET /containers/{id}/json", *changes),
            files=self._files,
            http=(f"GET {named.page_url}",),
            other=(f"{named.binary} -t", "SIGHUP to the master process of nginx"),
        )

    def _check(self, effect: Effect, seen: SeenEmergency) -> None:
        planned = effect.before["containers"]
        if set(planned) != set(seen.runs):
            raise Drifted("a service was made anew since it was planned")
        # One that runs since a later time was started by an earlier try of ours that was cut off, or by a person.
        spoilt = [one.name for one in seen.containers if not one.active and planned[one.id] != one.started_at]
        if spoilt:
            raise Drifted(f"{', '.join(spoilt)} has run since it was planned, and ended")

    async def _started(self, container: Container, ready_seconds: int, changed: bool) -> Container:
        try:
            if not container.active:
                await self._engine.start(container)
                changed = True
            return await self._engine.ready(container, ready_seconds)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}; the static page is still what answers") from error
        except ActionError as error:
            if changed:
                raise OutcomeUnknown(f"{error}; others were started before it") from error
            raise

    async def _serve(self, params: LeaveEmergencyParams) -> None:
        try:
            await self._site.switch("normal")
            await self._site.reload()
        except ActionError as error:
            raise OutcomeUnknown(
                f"the services were started, and the static page still answers: {error}"
            ) from error
        against = await self._outside.not_left(params.proof_seconds)
        if against:
            raise OutcomeUnknown(f"after {params.proof_seconds} s the site does not serve: {against[0]}")
