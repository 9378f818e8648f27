"""The shipped compose file and image: what would be wrong with them without a registry to try them against."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from remediator.settings import load_settings
from tests.support.processes import program

ROOT = Path(__file__).resolve().parents[2]
STACK = {"remediator", "prometheus", "alertmanager", "grafana", "redis", "redis-exporter"}


def compose() -> dict[str, Any]:
    """Return the compose file as data."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_the_whole_stack_is_there_and_watched() -> None:
    """Each of the six services has a health check, drops all capabilities and cannot gain privileges."""
    services = compose()["services"]

    assert services.keys() == STACK
    assert [] == [name for name, one in services.items() if "test" not in one.get("healthcheck", {})]
    assert [["ALL"]] * 6 == [one["cap_drop"] for one in services.values()]
    assert [["no-new-privileges:true"]] * 6 == [one["security_opt"] for one in services.values()]
    assert [] == [
        name for name, one in services.items() if one.get("privileged") or "docker.sock" in str(one)
    ]


def test_ports_are_published_on_loopback_only() -> None:
    """Nothing of the stack can be reached from another machine."""
    ports = [port for one in compose()["services"].values() for port in one.get("ports", ())]

    assert len(ports) == 4
    assert [] == [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)]


def test_our_own_files_are_mounted_read_only() -> None:
    """Whatever of this folder a container sees, it cannot change; and what is shipped is there to be mounted."""
    mounts = [mount for one in compose()["services"].values() for mount in one.get("volumes", ())]
    ours = [mount.split(":") for mount in mounts if mount.startswith("./")]

    assert ["./rules", "/etc/remediator/rules", "ro"] in ours
    assert ["./playbooks", "/etc/remediator/playbooks", "ro"] in ours
    assert [] == [mount for mount in ours if mount[2:] != ["ro"]]
    shipped = {mount[0] for mount in ours if not mount[0].startswith("./secrets")}
    assert [] == [path for path in sorted(shipped) if not (ROOT / path).exists()]


def test_secrets_are_files() -> None:
    """No environment variable holds a secret: those that are about one name a file, and that secret is declared."""
    stack = compose()
    told = {k: v for one in stack["services"].values() for k, v in one.get("environment", {}).items()}
    about = {k: v for k, v in told.items() if re.search("TOKEN|SECRET|PASSWORD", k)}

    assert {
        "REMEDIATOR_SERVER__WEBHOOK__BEARER_TOKEN_FILE",
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
    } == about.keys()
    assert {Path(path).name for path in about.values()} == stack["secrets"].keys()
    assert [] == [one for one in stack["secrets"].values() if not one["file"].startswith("./secrets/")]


def test_the_service_accepts_its_environment(tmp_path: Path) -> None:
    """The variables are settings that exist, with values that are valid; the webhook is authenticated; it is dry-run."""
    environment = dict(compose()["services"]["remediator"]["environment"])
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    environment["REMEDIATOR_SERVER__WEBHOOK__BEARER_TOKEN_FILE"] = str(token)
    settings = load_settings(environ=environment)

    assert ("suggest", "/var/lib/remediator/ledger.db") == (settings.mode.value, str(settings.ledger.path))
    assert (True, False) == (settings.server.webhook.authenticated, settings.server.allow_unauthenticated)
    assert ("http://prometheus:9090", "http://alertmanager:9093") == (
        settings.prometheus.url,
        settings.alertmanager.url,
    )


def test_promtool_accepts_the_prometheus_configuration(tmp_path: Path) -> None:
    """The inline configuration is valid, and finds the shipped rules where they are mounted."""
    stack = compose()
    mounted = [
        one for one in stack["services"]["prometheus"]["volumes"] if one.startswith("./prometheus/rules:")
    ]
    file = tmp_path / "prometheus.yml"
    text = str(stack["configs"]["prometheus"]["content"])
    file.write_text(text.replace("/etc/prometheus/rules", str(ROOT / "prometheus" / "rules")))
    argv = [program("promtool", package="prometheus"), "check", "config", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert ["./prometheus/rules:/etc/prometheus/rules:ro"] == mounted
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(list((ROOT / 'prometheus' / 'rules').glob('*.yml')))} rule files found" in done.stdout


def test_the_image_is_locked_and_runs_as_nobody_special() -> None:
    """Every pip install checks hashes or fetches nothing; the last user is a number other than 0; no secret is copied."""
    text = (ROOT / "Dockerfile").read_text()
    pips = [
        line for line in text.splitlines() if line.startswith("RUN") and re.search('"(install|wheel)"', line)
    ]
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)

    assert len(pips) == 4
    assert [] == [line for line in pips if "--require-hashes" not in line and "--no-index" not in line]
    assert ["10001:10001"] == users
    assert [] == [source for source in copied() if source in (".", "./") or "secret" in source]


def test_the_builder_is_given_what_the_dockerfile_copies_and_nothing_else() -> None:
    """Each source of a COPY exists and is let through by .dockerignore, which lets nothing else through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    through = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert [] == [source for source in sorted(copied()) if not (ROOT / source).exists()]
    assert copied() == through
    assert "*" in lines


def copied() -> set[str]:
    """What the Dockerfile copies from this tree."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return {word for line in lines for word in line.split()[:-1]}
