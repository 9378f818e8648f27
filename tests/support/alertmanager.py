"""A real Alertmanager of its own for a test, alone or as one peer of several."""

import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers, program
from tests.support.rest import call


class AlertmanagerServer(Server):
    """Alertmanager with the given configuration: a mapping, or the path of a file, such as the shipped one.

    Without `peers` it does not cluster. With `clustered=True` it listens for gossip at `cluster_address`; give the
    later ones the earlier ones' addresses as `peers`. `names` choose another binary than Debian's, such as
    `[str(tool("alertmanager"))]`.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | Path,
        *,
        flags: Sequence[str] = (),
        clustered: bool = False,
        peers: Sequence[str] = (),
        names: Sequence[str] = ("prometheus-alertmanager", "alertmanager"),
    ) -> None:
        self.port = free_port()
        self.cluster_address = f"127.0.0.1:{free_port()}" if clustered or peers else ""
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(config, Path):
            self.config_file = config.resolve()
        else:
            self.config_file = folder / "alertmanager.yml"
            self.write_config(config)
        super().__init__(
            [
                program(*names, package="prometheus-alertmanager"),
                f"--config.file={self.config_file}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
                f"--web.external-url={self.url}",
                f"--cluster.listen-address={self.cluster_address}",
                *(f"--cluster.peer={peer}" for peer in peers),
                *flags,
            ],
            name="alertmanager",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/-/ready"),
        )

    @property
    def address(self) -> str:
        """`host:port`, as a target of Prometheus's `alerting` section."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where its API and pages are."""
        return f"http://{self.address}"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration file; a running server takes it over at `reload`."""
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    async def reload(self) -> None:
        """Read the configuration again; raises RefusedError with Alertmanager's reason."""
        await call(f"{self.url}/-/reload", method="POST")

    async def post_alerts(self, alerts: Iterable[Mapping[str, Any]]) -> None:
        """Send alerts as Prometheus does: each has `labels` and may have annotations, startsAt and endsAt."""
        await call(f"{self.url}/api/v2/alerts", method="POST", body=[dict(alert) for alert in alerts])

    async def fire(self, alertname: str, *, for_seconds: float = 300, **labels: str) -> None:
        """Send one alert that fires now and ends by itself after `for_seconds` if nobody sends it again."""
        ends = datetime.now(UTC) + timedelta(seconds=for_seconds)
        await self.post_alerts([{"labels": {"alertname": alertname, **labels}, "endsAt": ends.isoformat()}])

    async def resolve(self, alertname: str, **labels: str) -> None:
        """Send the same alert as ended now."""
        now = datetime.now(UTC)
        await self.post_alerts([{"labels": {"alertname": alertname, **labels}, "endsAt": now.isoformat()}])

    async def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """Return the alerts that satisfy the matchers, silenced and inhibited ones too."""
        query = urllib.parse.urlencode([("filter", matcher) for matcher in matchers])
        found: list[dict[str, Any]] = await call(f"{self.url}/api/v2/alerts?{query}")
        return found

    async def silence(self, *, minutes: float = 60, comment: str = "by a test", **labels: str) -> str:
        """Silence the alerts with exactly these labels from now on, and return the silence's id."""
        now = datetime.now(UTC)
        answer = await call(
            f"{self.url}/api/v2/silences",
            method="POST",
            body={
                "matchers": [
                    {"name": name, "value": value, "isRegex": False, "isEqual": True}
                    for name, value in labels.items()
                ],
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(minutes=minutes)).isoformat(),
                "createdBy": "tests",
                "comment": comment,
            },
        )
        return str(answer["silenceID"])

    async def silences(self) -> list[dict[str, Any]]:
        """Return every silence, expired ones too."""
        found: list[dict[str, Any]] = await call(f"{self.url}/api/v2/silences")
        return found

    async def expire(self, silence: str) -> None:
        """End a silence now."""
        await call(f"{self.url}/api/v2/silence/{silence}", method="DELETE")
