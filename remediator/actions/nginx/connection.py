"""Which nginx, which pages, which services behind it; and what entering and leaving emergency mode share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.actions.nginx.probes import Outside
from remediator.actions.nginx.site import Site
from remediator.containers import Container
from remediator.domain.plans import Values
from remediator.engine import Engine
from remediator.errors import Drifted

ContainerName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]{1,500}$")]
ProbedUrl = Annotated[str, StringConstraints(pattern=r"^(https?|tcp)://[^\s@]{1,500}$")]


class NginxConnection(BaseModel):
    """One nginx on this host, its normal and its emergency configuration, and the services behind it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["nginx"]
    binary: Path = Field(default=Path("/usr/sbin/nginx"), description="for `nginx -t`")
    config_file: Path = Field(default=Path("/etc/nginx/nginx.conf"), description="its main file")
    prefix: Path | None = Field(default=None, description="as its `-p` names it")
    pid_file: Path = Path("/run/nginx.pid")
    active_link: Path = Field(
        description="a symlink that the main file includes; it points to one of the next two"
    )
    normal_file: Path = Field(description="the configuration that serves")
    emergency_file: Path = Field(description="the configuration that serves one static page and nothing else")
    page_url: WebUrl = Field(
        description="where the static page answers in emergency mode, as seen from outside"
    )
    page_text: str = Field(
        min_length=8, max_length=200, description="words of the static page that nothing else answers with"
    )
    silent_urls: tuple[ProbedUrl, ...] = Field(
        min_length=1,
        description="what must not answer in emergency mode, as seen from outside: http, https, or tcp://host:port; "
        "the static page in its place is no answer",
    )
    base_url: str = Field(
        default="unix:///var/run/docker.sock", description="unix:// or tcp:// of the engine of the services"
    )
    containers: tuple[ContainerName, ...] = Field(
        min_length=1, description="names of all containers that are stopped, in the order in which they start"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="of one call or probe")

    @model_validator(mode="after")
    def _whole_paths(self) -> Self:
        for path in (
            self.config_file,
            self.pid_file,
            self.active_link,
            self.normal_file,
            self.emergency_file,
        ):
            if not path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{path} is not a whole path")
        if len({self.active_link, self.normal_file, self.emergency_file}) != 3:
            raise ValueError("active_link, normal_file and emergency_file have to differ")
        return self


class NginxAction:
    """What both share: the site, the engine, and the look from outside."""

    Connection: ClassVar[type[BaseModel]] = NginxConnection

    def __init__(self, connection: NginxConnection) -> None:
        self._connection = connection
        self._engine = Engine(connection.base_url, max(connection.timeout_seconds, 10))
        self._site = Site(
            binary=connection.binary,
            config_file=connection.config_file,
            prefix=connection.prefix,
            pid_file=connection.pid_file,
            active_link=connection.active_link,
            files={"normal": connection.normal_file, "emergency": connection.emergency_file},
            timeout_seconds=connection.timeout_seconds,
        )
        self._outside = Outside(
            connection.page_url, connection.page_text, connection.silent_urls, connection.timeout_seconds
        )

    async def close(self) -> None:
        """Close the client."""
        await self._engine.close()

    @property
    def _subject(self) -> str:
        return f"site {self._connection.page_url}"

    async def _containers(self) -> tuple[Container, ...]:
        found = [await self._engine.find(name) for name in self._connection.containers]
        return tuple(one for one in found if one is not None)

    @property
    def _files(self) -> tuple[str, ...]:
        named = self._connection
        reads = (named.config_file, named.normal_file, named.emergency_file, named.pid_file)
        return (*(f"r {path}" for path in reads), f"rw {named.active_link}")


def same_content(before: Values, now: str) -> None:
    """Raise Drifted unless the configuration to switch to is the one that was planned on."""
    if before["sha256"] != now:
        raise Drifted("the configuration to switch to has changed since it was planned")
