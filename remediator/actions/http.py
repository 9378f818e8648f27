"""HTTP: health and smoke checks of the paths that a connection allows. They only read."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import aiohttp
import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    model_validator,
)

from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, PermanentFailure, Refused
from remediator.figures import figure
from remediator.httpcalls import Answer, BaseUrl, Caller
from remediator.pipeline.ports import Permissions

BODY_BYTES = 262_144
"""How much of an answer is looked at. A choice of ours."""

_NOT_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade"})


def _pattern(text: str) -> str:
    try:
        re2.compile(text)
    except re2.error as error:
        raise ValueError(f"no RE2 pattern: {error}") from error
    return text


def _header(name: str) -> str:
    if name.lower() in _NOT_OURS:
        raise ValueError(f"the header {name} is the client's")
    return name


CheckedPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]{0,300}$")]
"""A path of a URL, without a query and without anything that would have to be quoted."""

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_header)]
Scalar = StrictBool | StrictInt | StrictFloat | Annotated[str, StringConstraints(max_length=500)] | None


class HttpConnection(BaseModel):
    """One HTTP server. `paths` are the only ones that are asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["http"]
    base_url: BaseUrl = Field(description="http:// or https://, without credentials")
    paths: tuple[CheckedPath, ...] = Field(min_length=1, description="paths that may be asked for")
    header_files: Mapping[HeaderName, Path] = Field(
        default={}, description="files whose one line is sent as that header; read at each call"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=60, description="the longest that one try may take")

    @model_validator(mode="after")
    def _no_steps_up(self) -> Self:
        for path in self.paths:
            if any(part in (".", "..") for part in path.split("/")):
                raise ValueError(f"the path {path} has a . or .. in it")
        return self


class CheckParams(BaseModel):
    """Parameters of `http.check`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    path: CheckedPath = Field(description="what is asked for; the connection must allow it")
    status: int = Field(default=200, ge=100, le=599, description="the status of a good answer")
    body_pattern: (
        Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_pattern)] | None
    ) = Field(default=None, description="an RE2 pattern that is found in the body of a good answer")
    json_pointer: Annotated[str, StringConstraints(pattern=r"^(/[^/\x00-\x1f]{1,100}){1,10}$")] | None = (
        Field(default=None, description="where in a JSON body to look, such as `/status`")
    )
    json_value: Scalar = Field(default=None, description="what has to stand there")
    answer_within_seconds: float = Field(default=5, gt=0, le=60, description="how long one try may take")
    within_seconds: float = Field(default=30, ge=0, le=600, description="for how long it is tried")
    every_seconds: float = Field(default=1, ge=0.05, le=60, description="between two tries")
    passes: int = Field(default=1, ge=1, le=60, description="how many tries in a row have to be good")

    @model_validator(mode="after")
    def _a_place_for_the_value(self) -> Self:
        if self.json_pointer is None and self.json_value is not None:
            raise ValueError("json_value needs json_pointer")
        return self


@dataclass(frozen=True, slots=True)
class Probe:
    """One try. `fault` is empty where the answer was good."""

    fault: str
    status: int = 0
    seconds: float = 0
    size_bytes: int = 0

    @property
    def told(self) -> str:
        """In words."""
        return self.fault or f"answers {self.status} in {figure('seconds', round(self.seconds, 3))}"


class Check:
    """Check that a server answers as it should, several times if need be; the playbook stops where it does not."""

    kind: ClassVar[str] = "http.check"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = CheckParams
    Connection: ClassVar[type[BaseModel]] = HttpConnection

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._caller = Caller(
            connection.base_url,
            name=connection.base_url,
            timeout_seconds=connection.timeout_seconds,
            header_files=connection.header_files,
        )

    async def close(self) -> None:
        """Nothing is held."""

    async def observe(self, params: CheckParams) -> Probe:
        """One try."""
        self._check(params)
        return await self._probe(params)

    def plan(self, params: CheckParams, seen: Probe) -> tuple[Effect, ...]:
        """One effect, which reads."""
        wanted = [f"{params.status}"]
        if params.body_pattern is not None:
            wanted.append("the expected text")
        if params.json_pointer is not None:
            wanted.append(f"{params.json_value!r} at {params.json_pointer}")
        times = f"{params.passes} times in a row" if params.passes > 1 else "once"
        return (
            Effect(
                action=self.kind,
                subject=self._url(params),
                params=params.model_dump(mode="json"),
                summary=f"check that {self._url(params)} answers {' with '.join(wanted)}, {times} within "
                f"{figure('seconds', params.within_seconds)}; nothing is changed. Now: {seen.told}",
                before={"url": self._url(params)},
                figures={"passes": params.passes, "within_seconds": params.within_seconds},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Try until it is good often enough.

        Raises:
            PermanentFailure: when it is not in time; that ends the playbook.
        """
        params = CheckParams.model_validate(effect.params)
        self._check(params)
        if effect.before["url"] != self._url(params):
            raise Drifted(
                f"the connection leads to {self._url(params)}, and {effect.before['url']} was planned on"
            )
        clock = asyncio.get_running_loop().time
        deadline, good, tries = clock() + params.within_seconds, 0, 0
        while True:
            probe = await self._probe(params)
            tries += 1
            good = 0 if probe.fault else good + 1
            if good >= params.passes:
                return Result(
                    f"{effect.subject} {probe.told}",
                    changed=False,
                    evidence={"http": _evidence(probe, tries)},
                )
            if clock() + params.every_seconds > deadline:
                why = probe.fault or f"good {good} times in a row, {params.passes} are asked for"
                raise PermanentFailure(f"{effect.subject} is not healthy after {tries} tries: {why}")
            await asyncio.sleep(params.every_seconds)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: it only reads")

    def progress(self, effect: Effect, seen: Probe) -> Progress:
        """Reading again is the same as reading."""
        return Progress.UNTOUCHED

    def permissions(self, params: CheckParams) -> Permissions:
        """The one GET."""
        return Permissions(http=(f"GET {self._url(params)}",))

    def _check(self, params: CheckParams) -> None:
        if params.path not in self._connection.paths:
            raise Refused(f"the connection does not allow the path {params.path}")

    def _url(self, params: CheckParams) -> str:
        return self._connection.base_url + params.path

    async def _probe(self, params: CheckParams) -> Probe:
        begun = time.monotonic()
        try:
            answer = await self._caller.answer(
                "GET",
                params.path,
                timeout_seconds=params.answer_within_seconds,
                most_bytes=BODY_BYTES,
            )
        except TimeoutError:
            return Probe(f"no answer within {figure('seconds', params.answer_within_seconds)}")
        except (aiohttp.ClientError, OSError) as error:
            return Probe(f"no answer: {type(error).__name__}")
        fault = judge(params, answer)
        return Probe(fault, answer.status, time.monotonic() - begun, len(answer.body))


def judge(params: CheckParams, answer: Answer) -> str:
    """What is wrong with an answer; empty where nothing is. The body itself is never told."""
    if answer.status != params.status:
        hint = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
        return f"answers {answer.status}, expected {params.status}{hint}"
    if params.body_pattern is not None and not re2.search(params.body_pattern, answer.text):
        return "the body does not hold the expected text"
    if params.json_pointer is None:
        return ""
    if not answer.whole:
        return f"the body is longer than {BODY_BYTES:,} bytes"
    try:
        found = _at(answer.json("it"), params.json_pointer)
    except (PermanentFailure, LookupError, ValueError):
        return f"the body has no JSON with {params.json_pointer}"
    # 1 == True in Python, and not in JSON.
    same = found == params.json_value and isinstance(found, bool) == isinstance(params.json_value, bool)
    return "" if same else f"{params.json_pointer} is not {params.json_value!r}"


def _at(value: Any, pointer: str) -> Any:
    """RFC 6901."""
    for raw in pointer.split("/")[1:]:
        name = raw.replace("~1", "/").replace("~0", "~")
        match value:
            case list() if re.fullmatch(r"0|[1-9][0-9]{0,8}", name):
                value = value[int(name)]
            case dict():
                value = value[name]
            case _:
                raise LookupError(name)
    return value


def _evidence(probe: Probe, tries: int) -> dict[str, Any]:
    return {
        "status": probe.status,
        "seconds": round(probe.seconds, 3),
        "bytes": probe.size_bytes,
        "tries": tries,
    }
