"""Which MLflow, which of its models; and the registry's REST API in the few calls that the actions need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.errors import NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.httpcalls import BaseUrl, Caller

API = "/api/2.0/mlflow"
SERVING_STAGES = ("Staging", "Production")

_PAGE = 200
_PAGES = 50

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""The name of a registered model; nothing that the search's filter would read as more than a name."""

AliasName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,127}$")]
VersionNumber = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
TagName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
TagValue = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class MlflowConnection(BaseModel):
    """One MLflow tracking server. `models` are the only ones that are touched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mlflow"]
    tracking_uri: BaseUrl = Field(description="http:// or https://, without credentials")
    token_file: Path | None = Field(default=None, description="a bearer token, read at each call")
    models: tuple[ModelName, ...] = Field(min_length=1, description="registered models that may be touched")
    aliases: tuple[AliasName, ...] = Field(default=(), description="aliases that may be moved")
    verified_tag: TagName = Field(
        default="validation_status", description="the tag that a version carries once it was validated"
    )
    verified_value: TagValue = Field(default="approved", description="and what it says then")
    blocked_tag: TagName = Field(default="promotion_blocked", description="the tag that blocks a promotion")
    archive_by: Literal["stage", "tag"] = Field(
        default="stage",
        description="whether archiving moves the stage (MLflow 2), or sets the tag `archived`",
    )
    timeout_seconds: float = Field(default=10, gt=0, le=60)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model. `created` tells it from a later one that got the same number."""

    number: str
    created: int
    status: str
    stage: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model: its versions, the newest first, and where its aliases point."""

    name: str
    versions: tuple[Version, ...]
    aliases: Mapping[str, str]

    def version(self, number: str) -> Version:
        """That version. Raises NothingSelected where there is none."""
        for one in self.versions:
            if one.number == number:
                return one
        raise NothingSelected(f"{self.name} has no version {number}")

    def newest(self) -> Version:
        """The newest one. Raises NothingSelected where there is none."""
        if not self.versions:
            raise NothingSelected(f"{self.name} has no version")
        return self.versions[0]

    def used_by(self, number: str) -> str:
        """Why that version counts as in use; empty where nothing says so."""
        names = sorted(name for name, to in self.aliases.items() if to == number)
        if names:
            return f"the alias {', '.join(names)} points to it"
        stage = self.version(number).stage
        return f"it is in {stage}" if stage in SERVING_STAGES else ""


class MlflowAction:
    """What all of them share: the connection, and the calls."""

    Connection: ClassVar[type[BaseModel]] = MlflowConnection

    def __init__(self, connection: MlflowConnection) -> None:
        self._connection = connection
        self._caller = Caller(
            connection.tracking_uri,
            name="MLflow",
            timeout_seconds=connection.timeout_seconds,
            token_file=connection.token_file,
        )

    async def close(self) -> None:
        """Nothing is held."""

    def not_verified(self, version: Version) -> str:
        """Why that version may not serve; empty where it may."""
        ours = self._connection
        if version.status != "READY":
            return f"its status is {version.status}"
        if ours.blocked_tag in version.tags:
            return f"it is blocked ({ours.blocked_tag}={version.tags[ours.blocked_tag]!r})"
        if version.tags.get(ours.verified_tag) != ours.verified_value:
            return f"it has no tag {ours.verified_tag}={ours.verified_value}"
        return ""

    async def _model(self, name: str) -> Model:
        """Read a model. Raises Refused where the connection does not allow it, NothingSelected where there is none."""
        if name not in self._connection.models:
            raise Refused(
                f"the connection does not allow the model {name} (it allows {', '.join(self._connection.models)})"
            )
        found = await self._read("registered-models/get", {"name": name})
        told = found["registered_model"]
        aliases = {one["alias"]: str(one["version"]) for one in told.get("aliases") or ()}
        return Model(name, await self._versions(name), aliases)

    async def _versions(self, name: str) -> tuple[Version, ...]:
        found: list[Version] = []
        token = ""
        for _ in range(_PAGES):
            # A name has no quote in it.
            query = {"filter": f"name='{name}'", "max_results": str(_PAGE)}
            page = await self._read("model-versions/search", query | ({"page_token": token} if token else {}))
            found += [_version(one) for one in page.get("model_versions") or () if one["name"] == name]
            token = page.get("next_page_token") or ""
            if not token:
                return tuple(sorted(found, key=lambda one: int(one.number), reverse=True))
        raise PermanentFailure(f"{name} has more than {_PAGE * _PAGES:,} versions")

    async def _read(self, what: str, query: Mapping[str, str]) -> Any:
        return await self._caller.call("GET", f"{API}/{what}", query=query)

    async def _write(self, method: str, what: str, body: Mapping[str, Any]) -> None:
        await self._caller.call(method, f"{API}/{what}", body=dict(body))

    async def _set_tag(self, model: str, number: str, key: str, value: str) -> None:
        await self._write(
            "POST", "model-versions/set-tag", {"name": model, "version": number, "key": key, "value": value}
        )

    async def _delete_tag(self, model: str, number: str, key: str) -> None:
        await self._write(
            "DELETE", "model-versions/delete-tag", {"name": model, "version": number, "key": key}
        )

    async def _set_stage(self, model: str, number: str, stage: str) -> None:
        body = {"name": model, "version": number, "stage": stage, "archive_existing_versions": False}
        await self._write("POST", "model-versions/transition-stage", body)

    async def _afterwards(self, name: str) -> Model:
        """Look at what was just changed. Raises OutcomeUnknown where it cannot be seen."""
        try:
            return await self._model(name)
        except (NothingSelected, PermanentFailure) as error:
            raise OutcomeUnknown(f"after {name} was changed: {error}") from error

    def _urls(self, *calls: str) -> tuple[str, ...]:
        """The calls of looking, and these."""
        looks = ("GET registered-models/get", "GET model-versions/search")
        told = (call.split(" ") for call in (*looks, *calls))
        return tuple(f"{method} {self._connection.tracking_uri}{API}/{what}" for method, what in told)


def _version(told: Mapping[str, Any]) -> Version:
    return Version(
        number=str(told["version"]),
        created=int(told["creation_timestamp"]),
        status=told.get("status") or "READY",
        stage=told.get("current_stage") or "None",
        tags={one["key"]: one["value"] for one in told.get("tags") or ()},
    )
