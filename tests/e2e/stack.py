"""The whole stack from the shipped files: real Prometheus, Alertmanager and service; only times and addresses differ."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.fake_slack import BOT_TOKEN, FakeSlack
from tests.support.ports import free_port
from tests.support.processes import Server, http_answers

ROOT = Path(__file__).resolve().parents[2]
WEBHOOK_TOKEN = "webhook-token-for-tests-0001"
ADA_TOKEN = "ada-token-for-tests-000001"
ADA, EVE = "U0ADA", "U0EVE"


def shipped(path: str) -> Any:
    """A shipped YAML file."""
    return yaml.safe_load((ROOT / path).read_text())


def quick_rules(folder: Path, system: str, *, every: str = "1s", for_: str = "2s") -> list[Path]:
    """All shipped rules; those of one system are evaluated every second and fire after two."""
    written = []
    for path in sorted((ROOT / "prometheus/rules").glob("*.yml")):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            if system not in group["name"]:
                continue
            group["interval"] = every
            for rule in group["rules"]:
                if "alert" in rule:
                    rule |= {"for": for_, "keep_firing_for": "1s"}
        written.append(folder / path.name)
        written[-1].write_text(yaml.safe_dump(document, sort_keys=False))
    return written


def hurried_rules(
    folder: Path,
    alerts: Collection[tuple[str, str]],
    windows: Mapping[str, Mapping[str, str]],
    *,
    every: str = "1s",
    for_: str = "3s",
) -> list[Path]:
    """All shipped rules; only the named alerts, each with its severity, fire soon, and all the others as shipped.

    `windows` are the shorter ones of a record or alert: what stands in its expression, and what replaces it.
    """
    quick, shorter = set(alerts), dict(windows)
    written = []
    for path in sorted((ROOT / "prometheus/rules").glob("*.yml")):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            names = [rule.get("alert") or rule["record"] for rule in group["rules"]]
            if path.name.startswith("20-") or not windows.keys().isdisjoint(names):
                group["interval"] = every
            for rule, name in zip(group["rules"], names, strict=True):
                for old, new in shorter.pop(name, {}).items():
                    assert old in rule["expr"], f"{name} has no {old}"
                    rule["expr"] = rule["expr"].replace(old, new)
                if (name, rule.get("labels", {}).get("severity")) in quick:
                    rule["for"] = for_
                    rule.pop("keep_firing_for", None)
                    quick.discard((name, rule["labels"]["severity"]))
        written.append(folder / path.name)
        written[-1].write_text(yaml.safe_dump(document, sort_keys=False))
    assert not quick and not shorter, f"not among the shipped rules: {sorted(quick)}, {sorted(shorter)}"
    return written


def prometheus_config(jobs: list[dict[str, Any]], alertmanager: str) -> dict[str, Any]:
    """The shipped configuration with the test's targets, scraped every second."""
    config: dict[str, Any] = shipped("prometheus/prometheus.yml")
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = jobs
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    config["rule_files"] = []
    return config


def alertmanager_config(folder: Path, webhook: str, *, canary: bool = False) -> dict[str, Any]:
    """The shipped configuration; posts go to the test's service, at once, and people's receivers say nothing.

    With `canary` the Watchdog comes as well.
    """
    config: dict[str, Any] = shipped("alertmanager/alertmanager.yml")
    token = folder / "webhook-token"
    token.write_text(WEBHOOK_TOKEN)
    config.pop("templates", None)
    config["global"] = {
        key: value
        for key, value in config.get("global", {}).items()
        if not key.startswith(("slack", "smtp", "pagerduty"))
    }
    for receiver in config["receivers"]:
        hooks = receiver.get("webhook_configs", [])
        for key in [key for key in receiver if key != "name"]:
            del receiver[key]
        hooks = [hook for hook in hooks if hook["url"].startswith("http://remediator:")]
        if receiver["name"] == "remediator" or (canary and hooks):
            for hook in hooks:
                hook["url"] = webhook
                hook["http_config"]["authorization"]["credentials_file"] = str(token)
            receiver["webhook_configs"] = hooks
    _hurry(config["route"])
    return config


def _hurry(route: dict[str, Any]) -> None:
    route |= {"group_wait": "1s", "group_interval": "1s"}
    for child in route.get("routes", []):
        _hurry(child)


def shipped_rules(folder: Path, connections: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Path:
    """The shipped rules of all systems; only connections differ: `{system: {connection: changes}}`."""
    shutil.copytree(ROOT / "rules", folder, ignore=shutil.ignore_patterns("tests"))
    for system, changed in connections.items():
        document = shipped(f"rules/{system}.yml")
        for name, changes in changed.items():
            document["connections"][name] |= changes
        (folder / f"{system}.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def rules_with(folder: Path, system: str, connections: Mapping[str, Any], **verify: str) -> Path:
    """The shipped rules of one system, with the test's connections and a quick verification."""
    document = shipped(f"rules/{system}.yml")
    for name, changes in connections.items():
        document["connections"][name] |= changes
    for rule in document["rules"]:
        for holder in (rule, *rule.get("ladder", ())):
            if "verify" in holder:
                holder["verify"] |= verify
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{system}.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


class Remediator(Server):
    """`remediator serve` as a process, with settings of the test's."""

    def __init__(
        self,
        folder: Path,
        *,
        rules: Path,
        prometheus: str,
        alertmanager: str,
        slack: FakeSlack | None = None,
        mode: str = "approve",
        port: int = 0,
        playbooks: Path = ROOT / "playbooks",
        command: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        secrets = folder / "secrets"
        secrets.mkdir(exist_ok=True)
        settings: dict[str, Any] = {
            "mode": mode,
            "server": {
                "port": self.port,
                "webhook": {"bearer_token_file": _secret(secrets, "webhook", WEBHOOK_TOKEN)},
            },
            "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
            "prometheus": {"url": prometheus},
            "alertmanager": {"url": alertmanager},
            "people": [
                {
                    "name": "ada",
                    "groups": ["devops", "on-call"],
                    "slack": ADA,
                    "token_file": _secret(secrets, "ada", ADA_TOKEN),
                },
                {"name": "eve", "slack": EVE},
            ],
            "paths": {"rules": str(rules), "playbooks": str(playbooks)},
            "journal": {"anchor_file": str(folder / "anchors.txt")},
        }
        if slack is not None:
            settings["slack"] = {
                "bot_token_file": _secret(secrets, "bot", BOT_TOKEN),
                "signing_secret_file": _secret(secrets, "signing", slack.signing_secret),
                "channel": "C0OPS",
                "base_url": slack.api_url,
            }
            slack.interactivity_url = f"{self.url}/slack/interactions"
        self.config = folder / "remediator.yml"
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False))
        argv = command or (sys.executable, "-m", "remediator", "serve")
        super().__init__(
            [*argv, "--config", str(self.config)],
            name="remediator",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/-/ready"),
            env=env,
            within=90,
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhook(self) -> str:
        """Where Alertmanager posts."""
        return f"{self.url}/api/v1/alertmanager"

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ada asks."""
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {ADA_TOKEN}"}) as session,
            session.request(method, self.url + path, json=body) as answer,
        ):
            return await answer.json()

    async def remediations(self) -> list[dict[str, Any]]:
        """All of them, the newest first."""
        found: list[dict[str, Any]] = (await self.api("GET", "/api/v1/remediations"))["remediations"]
        return found

    async def post(self, body: bytes) -> int:
        """Alertmanager's post, by hand."""
        headers = {"Authorization": f"Bearer {WEBHOOK_TOKEN}", "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.webhook, data=body, headers=headers) as answer,
        ):
            return answer.status

    def cli(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run the command line beside it."""
        return subprocess.run(
            [sys.executable, "-m", "remediator", *argv],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def journal(self) -> list[dict[str, Any]]:
        """The whole journal, read from the file."""
        shown = self.cli("journal", "show", "--config", str(self.config))
        assert 0 == shown.returncode, shown.stderr
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def hang_up(self) -> None:
        """SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)


def _secret(folder: Path, name: str, value: str) -> str:
    (folder / name).write_text(value + "\n")
    return str(folder / name)
