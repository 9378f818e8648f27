"""The fixtures under badconfig/: each file is named after its fault and begins with the findings it must give.

    # expect: 7:5: error: the message, word by word

A finding of the runbook beside a playbook says `# expect .md: ...`. Fixtures are loaded with stand-ins for actions and
connections, so that what they say of the loaders does not change with the actions.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from remediator.domain.playbooks import Parameter, Playbook, Reference, Step
from remediator.errors import Finding

FOLDER = Path(__file__).parent / "badconfig"
_EXPECT = re.compile(r"# expect( \.md)?: (.*)")


class Redis(BaseModel):
    """Stands in for a connection to Redis."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["redis"]
    url: str
    password: SecretStr | None = None
    prefixes: tuple[str, ...] = ()
    ca_file: Path | None = None


class Docker(BaseModel):
    """Stands in for a connection to Docker, whose model does not repeat its kind."""

    model_config = ConfigDict(extra="forbid")

    base_url: str = "unix:///var/run/docker.sock"


class Unlink(BaseModel):
    """Stands in for the parameters of an action."""

    model_config = ConfigDict(extra="forbid")

    connection: str
    prefix: Annotated[str, StringConstraints(pattern="^[a-z:]+$")]
    batch_keys: int = Field(default=500, ge=1)


class Wipe(BaseModel):
    """Stands in for the parameters of an action that does not repeat the connection."""

    model_config = ConfigDict(extra="forbid")

    hard: bool = False


ACTIONS: Mapping[str, type[BaseModel]] = {"redis.unlink_prefix": Unlink, "redis.wipe": Wipe}
CONNECTIONS: Mapping[str, type[BaseModel]] = {"redis": Redis, "docker": Docker}
_CONNECTION = Parameter("connection", connection="redis")
PLAYBOOKS = {
    "clear": Playbook(
        "clear",
        "Clear a cache",
        "medium",
        (
            Step(
                "unlink",
                "redis.unlink_prefix",
                {n: Reference(n) for n in ("connection", "prefix", "batch_keys")},
            ),
        ),
        {
            "connection": _CONNECTION,
            "prefix": Parameter("prefix"),
            "batch_keys": Parameter("batch_keys", default=500, required=False),
        },
    ),
    "wipe": Playbook(
        "wipe",
        "Wipe a database",
        "high",
        (Step("wipe", "redis.wipe", {"connection": Reference("connection")}),),
        {"connection": _CONNECTION},
    ),
    "ask": Playbook("ask", "Ask somebody", "low", (), checklist=("ask",)),
}


def cases(kind: str) -> list[str]:
    """Return the names of the faults of one kind."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yml"))


def expected(kind: str, name: str) -> list[str]:
    """Return the findings that a fixture must give, as `name.yml:7:5: error: message`."""
    lines = (FOLDER / kind / f"{name}.yml").read_text(encoding="utf-8").splitlines()
    found = [match for line in lines if (match := _EXPECT.fullmatch(line))]
    return [f"{name}{match[1].strip() if match[1] else '.yml'}:{match[2]}" for match in found]


def alone(kind: str, name: str, folder: Path) -> Path:
    """Copy one fixture, with the runbook beside it, into a folder of its own."""
    for path in (FOLDER / kind).glob(f"{name}.*"):
        shutil.copy(path, folder)
    return folder / f"{name}.yml"


def told(findings: Iterable[Finding], folder: Path) -> list[str]:
    """Return the findings as text, without the folder."""
    return [str(finding).replace(f"{folder}/", "") for finding in findings]
