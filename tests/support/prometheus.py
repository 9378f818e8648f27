"""A real Prometheus of its own for a test, with the shipped rules or others."""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers, program
from tests.support.rest import call
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


class PrometheusServer(Server):
    """Prometheus with the given configuration; `rule_files` are added to those that it names.

    `flags` are further ones of its command line. An alert is sent again every second, not every minute, so that a
    test does not have to wait for the second notification.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        rule_files: Sequence[Path] = (),
        flags: Sequence[str] = (),
        names: Sequence[str] = ("prometheus",),
    ) -> None:
        self.port = free_port()
        self.config_file = folder / "prometheus.yml"
        folder.mkdir(parents=True, exist_ok=True)
        self.write_config(config, rule_files=rule_files)
        super().__init__(
            [
                program(*names, package="prometheus"),
                f"--config.file={self.config_file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={self.address}",
                f"--web.external-url={self.url}",
                "--web.enable-lifecycle",
                "--web.enable-admin-api",
                "--rules.alert.resend-delay=1s",
                *flags,
            ],
            name="prometheus",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/-/ready"),
        )

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where its API and pages are."""
        return f"http://{self.address}"

    def write_config(self, config: Mapping[str, Any], *, rule_files: Sequence[Path] = ()) -> None:
        """Write the configuration file; a running server takes it over at `reload`."""
        named = [*config.get("rule_files", ()), *(str(path.resolve()) for path in rule_files)]
        self.config_file.write_text(yaml.safe_dump({**config, "rule_files": named}, sort_keys=False))

    async def reload(self) -> None:
        """Read configuration and rules again; raises RefusedError with Prometheus's reason."""
        await call(f"{self.url}/-/reload", method="POST")

    async def query(self, expr: str) -> list[Sample]:
        """Return the instant vector (or the scalar, as one sample without labels) of the expression now."""
        answer = await call(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    async def until(
        self, expr: str, true_of: Callable[[list[Sample]], bool], *, within: float = 30
    ) -> list[Sample]:
        """Ask until `true_of` the answer, and return that answer; `within` is in seconds."""
        last: list[Sample] = []

        async def look() -> bool:
            last[:] = await self.query(expr)
            return true_of(last)

        await eventually(look, within=within, every=0.1, what=f"what was expected of {expr!r}")
        return last

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the pending and firing alerts, as the API lists them."""
        answer = await call(f"{self.url}/api/v1/alerts")
        found: list[dict[str, Any]] = answer["data"]["alerts"]
        return found

    async def firing(self, name: str, *, within: float = 30) -> dict[str, Any]:
        """Await and return the first firing alert of this `alertname`."""
        found: list[dict[str, Any]] = []

        async def look() -> bool:
            found[:] = [
                alert
                for alert in await self.alerts()
                if alert["state"] == "firing" and alert["labels"]["alertname"] == name
            ]
            return bool(found)

        await eventually(look, within=within, every=0.1, what=f"alert {name} firing")
        return found[0]
