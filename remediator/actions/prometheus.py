"""Prometheus: named queries of a connection, kept as evidence. They only read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.domain import promql
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, Refused
from remediator.httpcalls import BaseUrl, Caller
from remediator.pipeline.ports import Permissions
from remediator.redaction import Redactor


def _expression(text: str) -> str:
    promql.check(text)
    return text


QueryName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_expression)]


class PrometheusConnection(BaseModel):
    """One Prometheus, and the expressions that may be asked of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["prometheus"]
    url: BaseUrl = Field(description="http:// or https://, without credentials")
    token_file: Path | None = Field(default=None, description="a bearer token, read at each call")
    username: Annotated[str, StringConstraints(pattern=r"^[^:\x00-\x1f]{1,100}$")] | None = Field(
        default=None, description="for basic authentication, instead of a token"
    )
    password_file: Path | None = Field(default=None, description="the password, read at each call")
    queries: Mapping[QueryName, Expression] = Field(
        min_length=1, description="expressions that may be asked, by name"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=60)

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together")
        if self.username is not None and self.token_file is not None:
            raise ValueError("expected either a token_file or a username with its password_file")
        return self

    @property
    def login(self) -> tuple[str, Path] | None:
        """User and password file, where that is how it lets us in."""
        if self.username is None or self.password_file is None:
            return None
        return self.username, self.password_file


class SnapshotQueryParams(BaseModel):
    """Parameters of `prometheus.snapshot_query`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    queries: tuple[QueryName, ...] = Field(
        min_length=1, max_length=20, description="which of the connection's queries are asked"
    )
    max_samples: int = Field(default=50, ge=1, le=1000, description="how many samples of each are kept")


@dataclass(frozen=True, slots=True)
class Samples:
    """How many samples each query gave."""

    counts: Mapping[str, int]


class SnapshotQuery:
    """Capture what named queries say now as evidence. It changes nothing."""

    kind: ClassVar[str] = "prometheus.snapshot_query"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SnapshotQueryParams
    Connection: ClassVar[type[BaseModel]] = PrometheusConnection

    def __init__(self, connection: PrometheusConnection) -> None:
        self._connection = connection
        self._caller = Caller(
            connection.url,
            name="Prometheus",
            timeout_seconds=connection.timeout_seconds,
            token_file=connection.token_file,
            login=connection.login,
        )

    async def close(self) -> None:
        """Nothing is held."""

    async def observe(self, params: SnapshotQueryParams) -> Samples:
        """Ask and count."""
        return Samples({name: len(found) for name, found in (await self._ask(params)).items()})

    def plan(self, params: SnapshotQueryParams, seen: Samples) -> tuple[Effect, ...]:
        """One effect, which reads. No sample is a finding too."""
        told = ", ".join(f"{name} ({seen.counts.get(name, 0)} samples)" for name in params.queries)
        return (
            Effect(
                action=self.kind,
                subject=f"Prometheus {self._connection.url}",
                params=params.model_dump(mode="json"),
                summary=f"capture what Prometheus says to {told}; nothing is changed",
                before={"queries": self._digest(params)},
                figures={"queries": len(params.queries)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Ask and keep. Never `changed`."""
        params = SnapshotQueryParams.model_validate(effect.params)
        if effect.before["queries"] != self._digest(params):
            raise Drifted("the connection's queries have changed since they were planned on")
        found = await self._ask(params)
        kept: dict[str, Any] = {}
        for name, samples in found.items():
            kept[name] = {
                "expr": self._connection.queries[name],
                "samples": samples[: params.max_samples],
                "left_out": max(0, len(samples) - params.max_samples),
            }
        told = ", ".join(f"{name}: {len(samples)} samples" for name, samples in found.items())
        return Result(f"captured {told}", changed=False, evidence={"prometheus": Redactor().leaves(kept)})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: it only reads")

    def progress(self, effect: Effect, seen: Samples) -> Progress:
        """Reading again is the same as reading."""
        return Progress.UNTOUCHED

    def permissions(self, params: SnapshotQueryParams) -> Permissions:
        """The query API."""
        return Permissions(http=(f"GET {self._connection.url}/api/v1/query",))

    def _digest(self, params: SnapshotQueryParams) -> str:
        asked = [self._connection.url, {name: self._connection.queries.get(name) for name in params.queries}]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    async def _ask(self, params: SnapshotQueryParams) -> dict[str, list[Any]]:
        unknown = sorted(set(params.queries) - set(self._connection.queries))
        if unknown:
            raise Refused(f"the connection does not allow the query {', '.join(unknown)}")
        return {name: await self._samples(self._connection.queries[name]) for name in params.queries}

    async def _samples(self, expr: str) -> list[Any]:
        answer = await self._caller.call("GET", "/api/v1/query", query={"query": expr})
        data = answer["data"]
        if data["resultType"] in ("scalar", "string"):
            return [{"labels": {}, "value": data["result"][1]}]
        return [{"labels": one["metric"], "value": one.get("value", [0, ""])[1]} for one in data["result"]]
