"""Everything that is set once for the whole service: `remediator.yml`, overridden by the environment.

`server.port` is the variable `REMEDIATOR_SERVER__PORT`. A secret `x` may be given as `x_file` (variable
`..._X_FILE`), the path of a file that holds it. Relative paths start at the folder of `remediator.yml`.
docs/settings.md lists all of them.
"""

from __future__ import annotations

import ast
import inspect
import ipaddress
import itertools
import os
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticUndefined

from remediator.adapters.environment import Environment, variable
from remediator.adapters.schema import did_you_mean, faults, holds_secret, read_secrets, show
from remediator.adapters.values import FilePath, Hash, Name, Seconds, Secret, SessionKey, SqliteUrl, Url
from remediator.adapters.yamlfiles import Document, Fault, in_order, load_yaml
from remediator.domain.rules import Mode
from remediator.errors import ConfigError, Finding


def _service_mode(mode: object) -> object:
    known = [mode.value for mode in Mode if mode is not Mode.NOTIFY]
    if mode not in known:
        hint = did_you_mean(mode, known) if isinstance(mode, str) else ""
        raise ValueError(f"found {show(mode)}, expected suggest, approve or auto{hint}")
    return mode


def _group() -> Any:
    """A group's defaults, validated with the rest: they may hold paths, and may not be enough."""
    return Field(default_factory=dict, validate_default=True)


class Group(BaseModel):
    """A group of settings: unknown keys are errors, and nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Webhook(Group):
    """Who may post alerts to us. Alertmanager can send a bearer token or basic authentication."""

    bearer_token: Secret | None = None
    """The token that Alertmanager sends in `Authorization: Bearer`."""
    basic_users: dict[Name, Hash] = {}
    """User names with the bcrypt hash of their password. The file has one `name:hash` a line."""

    @property
    def authenticated(self) -> bool:
        """Whether a sender can be told from anybody."""
        return self.bearer_token is not None or bool(self.basic_users)


class Server(Group):
    """Where we listen."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """The address to listen on; `0.0.0.0` and `::` are all of them."""
    port: int = Field(default=8080, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""
    body_limit_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """The longest webhook body that is read, in bytes. A longer one is answered 413."""
    public_url: Url | None = None
    """Where people reach the pages, for links; https there makes the session cookie `Secure`."""
    session_key: SessionKey | None = None
    """Signs the sessions of the pages, at least 32 characters. Without it a restart signs everybody out."""
    allow_unauthenticated: bool = False
    """Accept webhooks from anybody. Only on a loopback address, for trying it out."""
    webhook: Webhook = _group()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach us."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _somebody_is_known(self) -> Self:
        if self.allow_unauthenticated and not self.loopback:
            raise ValueError(f"allow_unauthenticated is only for a loopback host; the host is {self.host!r}")
        if not self.webhook.authenticated and not self.allow_unauthenticated:
            raise ValueError(
                "webhooks are not authenticated: set server.webhook.bearer_token or server.webhook.basic_users"
                " (or, on a loopback host and only to try it out, server.allow_unauthenticated: true)"
            )
        return self


class LedgerSettings(Group):
    """The one truth."""

    url: SqliteUrl = Field(default="sqlite:///remediator.db", validate_default=True)
    """`sqlite:///PATH` of the database; it is made where it is missing."""

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self.url.removeprefix("sqlite:///"))


class PrometheusSettings(Group):
    """The Prometheus that evaluates the alerting rules and that verifications ask."""

    url: Url = "http://127.0.0.1:9090"
    """Its address, with the path prefix where it has one."""
    timeout_seconds: Seconds = 10
    """How long an answer may take, in seconds; then it counts as not answered."""
    bearer_token: Secret | None = None
    """The token for it, where it asks for one."""


class AlertmanagerSettings(Group):
    """The Alertmanager that knows the silences and inhibitions."""

    url: Url = "http://127.0.0.1:9093"
    """Its address, with the path prefix where it has one."""
    timeout_seconds: Seconds = 10
    """How long an answer may take, in seconds; then it counts as not answered."""
    bearer_token: Secret | None = None
    """The token for it, where it asks for one."""


class SlackSettings(Group):
    """Where people are told and asked. Off until there is a bot token."""

    bot_token: Secret | None = None
    """The bot's `xoxb-` token."""
    signing_secret: Secret | None = None
    """The app's signing secret, for buttons that reach us over HTTP."""
    app_token: Secret | None = None
    """The `xapp-` token, for buttons that reach us through Socket Mode; then no port has to be open."""
    channel: str = ""
    """The channel for plans and results: its id, or its name with `#`."""
    base_url: Url = "https://slack.com/api"
    """The address of Slack's Web API."""

    @property
    def enabled(self) -> bool:
        """Whether Slack is used."""
        return self.bot_token is not None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = self.signing_secret is not None or self.app_token is not None
        if not self.enabled and (given or self.channel):
            raise ValueError("slack is half set up: bot_token is missing")
        if self.enabled and not self.channel:
            raise ValueError("slack is half set up: channel is missing")
        if self.enabled and not given:
            raise ValueError(
                "slack is half set up: signing_secret (buttons over HTTP) or app_token (Socket Mode) is missing"
            )
        return self


class PersonSettings(Group):
    """Somebody who may approve. What rules call approvers are these names and groups."""

    name: Name
    """The name in the journal."""
    groups: tuple[Name, ...] = ()
    """The groups that this person votes for."""
    slack: str = ""
    """The Slack user id, such as `U012AB3CD`; without it this person's clicks do not count."""
    token: Secret | None = None
    """The bearer token for the API and the command line."""


class Paths(Group):
    """Where the rules and playbooks are."""

    rules: FilePath = Field(default=Path("rules"), validate_default=True)
    """The folder of the rule files."""
    playbooks: FilePath = Field(default=Path("playbooks"), validate_default=True)
    """The folder of the playbooks."""


class JournalSettings(Group):
    """Where the journal's heads are kept, so that a rewritten or cut journal shows."""

    anchor_file: FilePath | None = None
    """A file outside the ledger, best on another disk, that heads are appended to."""
    anchor_every: int = Field(default=100, ge=1)
    """After how many entries a head is written there."""


class LogSettings(Group):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for a person."""


class Settings(Group):
    """All settings of the service."""

    mode: Annotated[Mode, BeforeValidator(_service_mode)] = Mode.SUGGEST
    """The most that any rule may do: `suggest` (a dry run, nothing is touched), `approve` or `auto`."""
    server: Server = _group()
    ledger: LedgerSettings = _group()
    prometheus: PrometheusSettings = _group()
    alertmanager: AlertmanagerSettings = _group()
    slack: SlackSettings = _group()
    people: tuple[PersonSettings, ...] = ()
    """Who may approve."""
    paths: Paths = _group()
    journal: JournalSettings = _group()
    log: LogSettings = _group()
    recording: FilePath | None = None
    """A recording that is fed in at the start, as if Alertmanager had sent it; for trying it out."""

    @field_validator("people")
    @classmethod
    def _people_differ(cls, people: tuple[PersonSettings, ...]) -> tuple[PersonSettings, ...]:
        for what in ("name", "slack", "token"):
            given = [value for person in people if (value := getattr(person, what))]
            if len(set(given)) < len(given):
                raise ValueError(f"two of them have the same {what}")
        groups = {group for person in people for group in person.groups}
        both = sorted(groups & {person.name for person in people})
        if both:
            raise ValueError(f"{', '.join(both)} is the name of a person and of a group")
        return people


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from a file (none: the defaults) and the environment, which wins.

    Raises:
        ConfigError: with everything that is wrong, in the file and in the environment.
    """
    document = load_yaml(path) if path else Document("remediator.yml", None)
    environment = Environment(Settings, os.environ if environ is None else environ)
    base = path.parent if path else Path()

    def finding(fault: Fault) -> Finding:
        name = environment.origin(fault.path)
        return environment.finding(name, fault.message) if name else document.finding(fault)

    over, told = environment.read()
    below, not_a_mapping = _mapping(document)
    below, of_file = read_secrets(Settings, below, base)
    over, of_environment = read_secrets(Settings, over, base)
    told += [*not_a_mapping, *(document.finding(fault) for fault in of_file), *map(finding, of_environment)]
    try:
        settings = Settings.model_validate(_merged(below, over), context={"base": base})
    except ValidationError as error:
        # A secret whose file could not be read is missing: what follows from that is no news.
        told += [finding(fault) for fault in faults(error, Settings) if not (told and _follows(fault))]
        raise ConfigError(in_order(told)) from error
    if told:
        raise ConfigError(in_order(told))
    return settings


def _mapping(document: Document) -> tuple[dict[str, Any], list[Finding]]:
    if document.data is None:
        return {}, []
    if isinstance(document.data, dict):
        return document.data, []
    return {}, [document.finding(Fault((), f"found {show(document.data)}, expected a mapping of settings"))]


def _follows(fault: Fault) -> bool:
    return "not authenticated" in fault.message or "half set up" in fault.message


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {
        key: _merged(below[key], value) if key in below else value for key, value in above.items()
    }


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as docs/settings.md lists it."""

    name: str
    variable: str
    default: str
    meaning: str
    secret: bool


def listed(model: type[BaseModel] = Settings, at: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting there is, in order. Those of a list's items are named `people[].name`."""
    meanings = _meanings(model)
    for name, info in model.model_fields.items():
        path = (*at, name)
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from listed(annotation, path)
            continue
        secret = holds_secret(annotation)
        default = info.default
        yield Setting(
            ".".join(path),
            variable(path) if "[]" not in "".join(path) else "",
            "" if default in (None, PydanticUndefined, (), {}) else str(default),
            meanings[name],
            secret,
        )
        items = typing.get_args(annotation)
        if items and isinstance(items[0], type) and issubclass(items[0], BaseModel):
            yield from listed(items[0], (*at, f"{name}[]"))


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field, read from the source: pydantic would do it at every start."""
    (group,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(group, ast.ClassDef)
    found = dict.fromkeys(model.model_fields, "")
    for field, below in itertools.pairwise(group.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
        ):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return found
