"""The shipped Alertmanager configuration: what amtool says of it, and what a real Alertmanager does with it."""

import copy
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.support.alertmanager import AlertmanagerServer
from tests.support.ports import free_port
from tests.support.processes import program
from tests.support.waiting import NeverHappenedError, eventually

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "alertmanager" / "alertmanager.yml"
TEMPLATES = ROOT / "alertmanager" / "templates" / "*.tmpl"
RULES = ROOT / "prometheus" / "rules"
AMTOOLS = [
    program("amtool", package="prometheus-alertmanager"),
    # Newer releases, where somebody has fetched them: the configuration has to be valid for all.
    *map(str, sorted((Path.home() / ".cache" / "remediator-tools").glob("amtool*"))),
]
TOKEN = "token-of-this-test"
ALWAYS: list[dict[str, Any]] = [{"weekdays": ["sunday:saturday"]}]
NEVER: list[dict[str, Any]] = [{"years": ["1970"]}]
SEVERITIES = ("critical", "warning", "info")


def shipped() -> dict[str, Any]:
    """Return the configuration as data, free of shared nodes, so that a test can change its copy."""
    return copy.deepcopy(yaml.safe_load(CONFIG.read_text()))


def route_rows() -> list[dict[str, Any]]:
    """Return the rows of alertmanager/tests/routes.yml."""
    rows: list[dict[str, Any]] = yaml.safe_load((CONFIG.parent / "tests" / "routes.yml").read_text())["rows"]
    return rows


def routes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a route and all those below it."""
    yield node
    for child in node.get("routes", ()):
        yield from routes(child)


def seconds(duration: str) -> int:
    """Read a duration of one unit."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def alerting_rules() -> list[dict[str, Any]]:
    """Return every alerting rule that we ship."""
    files = sorted(RULES.glob("30-*.yml")) + sorted(RULES.glob("40-*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


# ------------------------------------------------------------------------------------------------ amtool


@pytest.mark.parametrize("amtool", AMTOOLS, ids=lambda path: Path(path).name)
def test_amtool_accepts_the_configuration(amtool: str) -> None:
    """The file and its templates are valid, and all that is in it is found."""
    done = subprocess.run([amtool, "check-config", str(CONFIG)], capture_output=True, text=True, check=False)

    assert (0, True) == (done.returncode, " - 1 templates" in done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize("amtool", AMTOOLS, ids=lambda path: Path(path).name)
def test_amtool_routes_every_row(amtool: str) -> None:
    """Each class of alert, and each alert by name, reaches exactly the receivers of its row, in that order."""

    def ask(row: Mapping[str, Any]) -> str:
        labels = [f"{name}={value}" for name, value in row["labels"].items()]
        argv = [amtool, "config", "routes", "test", f"--config.file={CONFIG}", *labels]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    rows = route_rows()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, rows))

    expected = [(row["labels"], ",".join(row["receivers"])) for row in rows]
    assert expected == [(row["labels"], answer) for row, answer in zip(rows, answers, strict=True)]


def test_every_alerting_rule_has_a_row() -> None:
    """No alert of prometheus/rules goes without a row that has the very labels by which it is routed."""
    keys = ("severity", "system", "team")
    rows = [row["labels"] for row in route_rows()]
    rules = alerting_rules()
    missing = []
    for rule in rules:
        # A templated label, or one that the series bring, is whatever it is in the rows.
        fixed = {key: rule["labels"][key] for key in keys if "{{" not in rule["labels"].get(key, "{{")}
        wanted = {"alertname": rule["alert"], **fixed}
        if rule["alert"] != "Watchdog" and not any(wanted.items() <= row.items() for row in rows):
            missing.append(wanted)

    assert [] == missing
    assert len(rules) >= 131


def test_every_row_but_the_watchdogs_reaches_us_once() -> None:
    """The table itself cannot hide an alert from remediator, nor send it twice; the Watchdog has its own way."""
    rows = route_rows()
    watchdogs = [row["receivers"] for row in rows if row["labels"]["alertname"] == "Watchdog"]
    others = [row["receivers"] for row in rows if row["labels"]["alertname"] != "Watchdog"]

    assert [["deadman"]] * 4 == watchdogs
    assert {("remediator", 1)} == {(receivers[0], receivers.count("remediator")) for receivers in others}
    assert [] == [receivers for receivers in others if len(receivers) < 2]


# --------------------------------------------------------------------------------- the file, read as data


def test_our_webhook_is_authenticated_and_whole() -> None:
    """We get resolved alerts and uncut groups, with a token that stands in a file; the canary comes the same way."""
    by_name = {receiver["name"]: receiver.get("webhook_configs", []) for receiver in shipped()["receivers"]}
    expected = {
        "url": "http://remediator:8080/api/v1/alertmanager",
        "send_resolved": True,
        "max_alerts": 0,
        "http_config": {
            "follow_redirects": False,
            "authorization": {
                "type": "Bearer",
                "credentials_file": "/etc/alertmanager/secrets/remediator_token",
            },
        },
    }

    assert [expected] == by_name["remediator"]
    assert expected == by_name["deadman"][1]


def test_no_secret_stands_in_the_file() -> None:
    """Each key that Alertmanager treats as a secret is given as a file, below one folder."""

    def leaves(node: object, key: str = "") -> Iterator[tuple[str, object]]:
        if isinstance(node, Mapping):
            for name, below in node.items():
                yield from leaves(below, str(name))
        elif isinstance(node, list):
            for below in node:
                yield from leaves(below, key)
        else:
            yield key, node

    given = list(leaves(shipped()))
    secret = {
        "api_url",
        "credentials",
        "password",
        "bearer_token",
        "routing_key",
        "service_key",
        "token",
        "api_key",
    }
    files = [str(value) for key, value in given if key.endswith("_file")]

    assert [] == [key for key, _ in given if key in secret]
    assert [] == [file for file in files if not file.startswith("/etc/alertmanager/secrets/")]
    assert {"remediator_token": 2} == {
        Path(file).name: files.count(file) for file in files if files.count(file) > 1
    }
    assert 2 + 13 == len(set(files))


def test_reminders_are_those_of_the_severity_and_longer_than_a_flush() -> None:
    """Critical again after 1 h, warning after 4 h, info after 24 h, in our route and in the people's."""
    ours, critical, info, warning = shipped()["route"]["routes"][1:]
    below = {route["matchers"][0]: route["repeat_interval"] for route in ours["routes"]}

    assert {'severity="critical"': "1h", 'severity="warning"': "4h", 'severity="info"': "24h"} == below
    assert ["1h", "24h", "4h"] == [route["repeat_interval"] for route in (critical, info, warning)]
    timed = [route for route in routes(shipped()["route"]) if "repeat_interval" in route]
    assert [] == [r for r in timed if seconds(r["repeat_interval"]) % seconds(r["group_interval"])]


def test_windows_quiet_only_what_is_not_critical_and_never_us() -> None:
    """Read as data: no muted route lies below the critical or our own branch, and both windows are used."""
    _watchdog, ours, critical, info, warning = shipped()["route"]["routes"]
    muted = [name for route in routes(info) for name in route.get("mute_time_intervals", ())]

    assert [] == [
        route for branch in (ours, critical) for route in routes(branch) if "mute_time_intervals" in route
    ]
    assert [] == [route for route in routes(shipped()["route"]) if "active_time_intervals" in route]
    assert {"photonic-standard-window", "learning-rec-db-maintenance"} == set(muted)
    assert [route["receiver"] for route in routes(info)] == [route["receiver"] for route in routes(warning)]


def test_windows_are_the_documented_hours() -> None:
    """Photonic: Sunday 02:00-06:00 UTC (L381). Learning-rec: Monday 08:00 UTC, 30 minutes (L55, L74)."""
    expected = {
        "photonic-standard-window": (["sunday"], [{"start_time": "02:00", "end_time": "06:00"}], "UTC"),
        "learning-rec-db-maintenance": (["monday"], [{"start_time": "08:00", "end_time": "08:30"}], "UTC"),
    }
    found = {
        window["name"]: tuple(part[key] for key in ("weekdays", "times", "location"))
        for window in shipped()["time_intervals"]
        for part in window["time_intervals"]
    }

    assert expected == found


def test_inhibition_never_hides_what_is_about_peoples_data() -> None:
    """Alerts about patient data, anonymisation, encryption or audit are no target of another alert's name."""
    protected = (
        "PatientData",
        "NonAnonymized",
        "Unanonymized",
        "AuditLog",
        "Encryption",
        "Compliance",
        "Corruption",
    )
    named = [" ".join(rule["target_matchers"]) for rule in shipped()["inhibit_rules"]]

    assert [] == [target for target in named for word in protected if word in target]


# --------------------------------------------------------------------------------------- a real Alertmanager


@dataclass
class Sink:
    """What a real Alertmanager delivered: one entry for each alert in each notification."""

    got: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(place, alertname, severity, status), where the place is `remediator`, `outside` (the dead man's service) or a
    Slack receiver, for which the title stands for the last three."""
    groups: set[tuple[str, str]] = field(default_factory=set)
    """(group key, tasks in it) of what reached remediator."""
    unauthorised: int = 0

    async def webhook(self, request: web.Request) -> web.Response:
        """Take a webhook of ours or of the dead man's receiver; refuse it without the token."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.unauthorised += 1
            return web.Response(status=401)
        body = await request.json()
        for alert in body["alerts"]:
            labels = alert["labels"]
            entry = (
                request.match_info["place"],
                labels["alertname"],
                labels.get("severity", ""),
                alert["status"],
            )
            self.got.append(entry)
        self.groups.add(
            (body["groupKey"], ",".join(sorted(a["labels"].get("task", "") for a in body["alerts"])))
        )
        return web.Response()

    async def slack(self, request: web.Request) -> web.Response:
        """Take a Slack message; its title is that of templates/remediator.tmpl."""
        body = await request.json()
        self.got.append((request.match_info["channel"], body["attachments"][0]["title"], "", ""))
        return web.Response(text="ok")

    def ours(self, status: str = "firing") -> set[tuple[str, str]]:
        """(alertname, severity) of what reached remediator in that state."""
        return {(name, severity) for receiver, name, severity, state in self.got
                if receiver == "remediator" and state == status}  # fmt: skip

    def titles(self, channel: str) -> set[str]:
        """Titles of what reached one Slack channel."""
        return {title for receiver, title, *_ in self.got if receiver == channel}

    async def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until what was delivered satisfies the condition."""

        async def look() -> bool:
            return condition()

        try:
            await eventually(look, within=30, what=what)
        except NeverHappenedError as never:
            raise NeverHappenedError(f"{never}; delivered: {self.got!r}") from never


def localised(folder: Path, port: int, windows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the shipped configuration with only its addresses, its waits and (if given) its hours changed."""
    config = shipped()
    config["templates"] = [str(TEMPLATES)]
    token = folder / "token"
    token.write_text(TOKEN)
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            place = "remediator" if "remediator" in webhook["url"] else "outside"
            webhook["url"] = f"http://127.0.0.1:{port}/{place}"
            webhook["http_config"]["authorization"]["credentials_file"] = str(token)
        for slack in receiver.get("slack_configs", ()):
            address = folder / Path(slack["api_url_file"]).name
            address.write_text(f"http://127.0.0.1:{port}/slack/{receiver['name']}")
            slack["api_url_file"] = str(address)
    for route in routes(config["route"]):
        if "group_wait" in route:
            assert isinstance(route, dict)
            route.update(group_wait="300ms", group_interval="500ms")
    for window in config["time_intervals"]:
        window["time_intervals"] = windows.get(window["name"], window["time_intervals"])
    return config


@asynccontextmanager
async def alertmanager(
    folder: Path, windows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> AsyncIterator[tuple[AlertmanagerServer, Sink]]:
    """Start a sink and a real Alertmanager that delivers to it by the shipped configuration."""
    sink, port = Sink(), free_port()
    app = web.Application()
    app.router.add_post("/slack/{channel}", sink.slack)
    app.router.add_post("/{place}", sink.webhook)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with AlertmanagerServer(folder, localised(folder, port, windows or {})) as server:
            yield server, sink
    finally:
        await runner.cleanup()


async def inhibited(server: AlertmanagerServer, alertname: str, severity: str) -> bool:
    """Tell whether Alertmanager holds that alert and says that another one inhibits it."""
    found = await server.alerts(f'alertname="{alertname}"', f'severity="{severity}"')
    return [True] == [bool(alert["status"]["inhibitedBy"]) for alert in found]


async def test_critical_inhibits_its_warning_and_info(tmp_path: Path) -> None:
    """The worse severity hides the milder ones of the same alert and system, but not those of another system."""
    async with alertmanager(tmp_path) as (server, sink):
        await server.fire("BrainstemDiceDriftHigh", system="brainstem", severity="critical")
        await sink.wait(lambda: ("BrainstemDiceDriftHigh", "critical") in sink.ours(), "the critical alert")
        for severity in ("warning", "info"):
            await server.fire("BrainstemDiceDriftHigh", system="brainstem", severity=severity)
        await server.fire("BrainstemDiceDriftHigh", system="pneumonia", severity="warning")
        await server.fire("LearningRecMilvusItemsHigh", system="learning-rec", severity="warning")
        await server.fire("LearningRecMilvusItemsHigh", system="learning-rec", severity="info")
        # Sent after the others with the same waits: when these are here, the others have had their turn.
        await sink.wait(
            lambda: "slack-pneumonia-sre" in {entry[0] for entry in sink.got}, "the other system's"
        )
        await server.fire("Marker", system="brainstem", severity="info")
        await sink.wait(lambda: ("Marker", "info") in sink.ours(), "the marker")

        hidden = [await inhibited(server, "BrainstemDiceDriftHigh", "info")]
        hidden.append(await inhibited(server, "LearningRecMilvusItemsHigh", "info"))
        warnings = await server.alerts('alertname="BrainstemDiceDriftHigh"', 'severity="warning"')
        by_system = {one["labels"]["system"]: bool(one["status"]["inhibitedBy"]) for one in warnings}

    assert [True, True] == hidden
    assert {"brainstem": True, "pneumonia": False} == by_system
    expected = {
        ("BrainstemDiceDriftHigh", "critical"),
        ("BrainstemDiceDriftHigh", "warning"),  # pneumonia's
        ("LearningRecMilvusItemsHigh", "warning"),
        ("Marker", "info"),
    }
    assert expected == sink.ours()
    assert set() == sink.titles("slack-brainstem-ml")


@pytest.mark.parametrize(
    ("system", "source", "hidden", "seen"),
    [
        pytest.param(
            "brainstem",
            ("BrainstemApiDown", "critical"),
            [("BrainstemLatencyP95High", "critical"), ("BrainstemSuccessRateLow", "warning")],
            [("BrainstemPatientDataInCache", "critical"), ("BrainstemDiskUsageHigh", "critical")],
            id="brainstem-api-down",
        ),
        pytest.param(
            "pneumonia",
            ("PneumoniaServiceDown", "critical"),
            [
                ("PneumoniaLatencyHigh", "warning"),
                ("PneumoniaErrorRateHigh", "warning"),
                ("PneumoniaInferenceSuccessRateLow", "warning"),
            ],
            [("PneumoniaContainerNotRunning", "critical"), ("PneumoniaMlflowDown", "warning")],
            id="pneumonia-service-down",
        ),
        pytest.param(
            "pneumonia",
            ("PneumoniaPostDeployIssue", "critical"),
            [
                ("PneumoniaErrorRateHigh", "warning"),
                ("PneumoniaLatencyHigh", "warning"),
                ("PneumoniaInferenceSuccessRateLow", "warning"),
            ],
            [("PneumoniaUnauthorizedAccess", "critical")],
            id="pneumonia-post-deploy-issue",
        ),
        pytest.param(  # by itself: in the case above it would hide the others too
            "pneumonia",
            ("PneumoniaPostDeployIssue", "critical"),
            [("PneumoniaServiceDown", "critical")],
            [("PneumoniaMlflowDown", "warning")],
            id="pneumonia-post-deploy-issue-over-service-down",
        ),
        pytest.param(
            "photonic",
            ("PhotonicServiceDown", "critical"),
            [("PhotonicMajorDegradation", "critical")],
            [("PhotonicDataCorruption", "critical")],
            id="photonic-service-down",
        ),
        pytest.param(
            "photonic",
            ("PhotonicApiDown", "critical"),
            [("PhotonicMajorDegradation", "critical")],
            [("PhotonicDataCorruption", "critical")],
            id="photonic-api-down",
        ),
        pytest.param(
            "openalgebra",
            ("OpenAlgebraServiceDown", "critical"),
            [
                ("OpenAlgebraApiLatencyHigh", "warning"),
                ("OpenAlgebraErrorRateHigh", "critical"),
                ("OpenAlgebraDicomProcessingSlow", "critical"),
            ],
            [("OpenAlgebraUnanonymizedData", "critical"), ("OpenAlgebraDatabaseDown", "critical")],
            id="openalgebra-service-down",
        ),
        pytest.param(
            "openalgebra",
            ("OpenAlgebraCompleteFailure", "critical"),
            [("OpenAlgebraErrorRateHigh", "critical")],
            [("OpenAlgebraAuditLogGap", "critical")],
            id="openalgebra-complete-failure",
        ),
        pytest.param(
            "learning-rec",
            ("LearningRecMilvusCollectionMissing", "critical"),
            [("LearningRecMilvusLatencyHigh", "warning")],
            [("LearningRecRdsDiskHigh", "warning")],
            id="learning-rec-milvus-collection-missing",
        ),
    ],
)
async def test_a_service_that_is_down_hides_its_symptoms(
    tmp_path: Path,
    system: str,
    source: tuple[str, str],
    hidden: list[tuple[str, str]],
    seen: list[tuple[str, str]],
) -> None:
    """Latency and errors of a service that is down are not told; other faults, and other systems', are."""
    other = "photonic" if system != "photonic" else "brainstem"
    async with alertmanager(tmp_path) as (server, sink):
        await server.fire(source[0], system=system, severity=source[1])
        await sink.wait(lambda: source in sink.ours(), "the source")
        for alertname, severity in hidden + seen:
            await server.fire(alertname, system=system, severity=severity)
        await sink.wait(lambda: set(seen) <= sink.ours(), "what stays visible")
        states = [await inhibited(server, *one) for one in hidden]
        await server.fire(hidden[0][0], system=other, severity=hidden[0][1])
        await sink.wait(lambda: hidden[0] in sink.ours(), "the same alert of another system")

    assert [True] * len(hidden) == states
    assert {source, *seen, hidden[0]} == sink.ours()


async def test_an_inhibited_alert_is_told_when_what_hid_it_ends(tmp_path: Path) -> None:
    """Inhibition delays; it does not lose: with the source resolved the symptom reaches us."""
    async with alertmanager(tmp_path) as (server, sink):
        await server.fire("PneumoniaServiceDown", system="pneumonia", severity="critical")
        await sink.wait(lambda: bool(sink.ours()), "the source")
        await server.fire("PneumoniaLatencyHigh", system="pneumonia", severity="warning")
        await server.fire("PneumoniaMlflowDown", system="pneumonia", severity="warning")
        await sink.wait(lambda: ("PneumoniaMlflowDown", "warning") in sink.ours(), "an alert sent after it")
        before = sink.ours()
        await server.resolve("PneumoniaServiceDown", system="pneumonia", severity="critical")
        await sink.wait(lambda: ("PneumoniaLatencyHigh", "warning") in sink.ours(), "the symptom")

    assert ("PneumoniaLatencyHigh", "warning") not in before


async def test_a_window_never_mutes_a_critical_alert_nor_us(tmp_path: Path) -> None:
    """Inside both windows: warning and info are quiet in that system's channel only; critical and we hear all."""
    windows = {"photonic-standard-window": ALWAYS, "learning-rec-db-maintenance": ALWAYS}
    names = {severity: f"During{severity.title()}" for severity in SEVERITIES}
    async with alertmanager(tmp_path, windows) as (server, sink):
        for severity, alertname in names.items():
            await server.fire(alertname, system="photonic", severity=severity)
        await server.fire(
            "PhotonicImageVulnerabilities", system="photonic", severity="warning", team="security"
        )
        await server.fire("LearningRecIndexFragmentationHigh", system="learning-rec", severity="info")
        ours = {(alertname, severity) for severity, alertname in names.items()}
        ours |= {("PhotonicImageVulnerabilities", "warning"), ("LearningRecIndexFragmentationHigh", "info")}
        await sink.wait(lambda: ours <= sink.ours(), "all of them at our webhook")
        # Sent later with the same waits, on routes that no window touches.
        for severity in ("warning", "info"):
            await server.fire(f"Marker{severity}", system="learning-rec", severity=severity)
        await sink.wait(lambda: 2 == len(sink.titles("slack-learning-rec-platform-ops")), "the markers")
        await sink.wait(lambda: bool(sink.titles("slack-photonic-security")), "the security finding")

    assert {"[FIRING:1] CRITICAL DuringCritical (photonic)"} == sink.titles("slack-photonic-oncall")
    assert {
        "[FIRING:1] WARNING Markerwarning (learning-rec)",
        "[FIRING:1] INFO Markerinfo (learning-rec)",
    } == sink.titles("slack-learning-rec-platform-ops")


async def test_outside_a_window_people_hear_everything(tmp_path: Path) -> None:
    """The same alerts outside the hours are told: it is the window that quiets, not the route."""
    windows = {"photonic-standard-window": NEVER, "learning-rec-db-maintenance": NEVER}
    async with alertmanager(tmp_path, windows) as (server, sink):
        for severity in SEVERITIES:
            await server.fire(f"Outside{severity}", system="photonic", severity=severity)
        await server.fire("LearningRecIndexFragmentationHigh", system="learning-rec", severity="info")
        await sink.wait(lambda: bool(sink.titles("slack-learning-rec-platform-ops")), "learning-rec's")
        await sink.wait(lambda: 3 == len(sink.titles("slack-photonic-oncall")), "photonic's three")

    assert {f"[FIRING:1] {one.upper()} Outside{one} (photonic)" for one in SEVERITIES} == sink.titles(
        "slack-photonic-oncall"
    )


async def test_the_watchdog_reaches_no_person(tmp_path: Path) -> None:
    """It is sent to the dead man's service outside, and to us as the canary; no channel ever gets it."""
    async with alertmanager(tmp_path) as (server, sink):
        await server.fire("Watchdog", severity="none", system="all")
        await sink.wait(lambda: "outside" in {entry[0] for entry in sink.got}, "the Watchdog outside")
        await sink.wait(lambda: ("Watchdog", "none") in sink.ours(), "the canary at our webhook")
        await server.fire("Marker", severity="none", system="all")
        await sink.wait(lambda: bool(sink.titles("slack-platform")), "an alert sent after it")

    assert {"outside", "remediator"} == {place for place, name, *_ in sink.got if "Watchdog" in name}
    assert {"Watchdog"} == {name for place, name, *_ in sink.got if place == "outside"}


async def test_we_are_told_of_the_end(tmp_path: Path) -> None:
    """A resolved alert is delivered as such, with the token from the file, to us and to people."""
    async with alertmanager(tmp_path) as (server, sink):
        await server.fire("PneumoniaServiceDown", system="pneumonia", severity="critical")
        await sink.wait(lambda: bool(sink.titles("slack-pneumonia-sre")), "the alert in Slack")
        await sink.wait(lambda: bool(sink.ours()), "the alert")
        await server.resolve("PneumoniaServiceDown", system="pneumonia", severity="critical")
        await sink.wait(lambda: bool(sink.ours("resolved")), "its end")
        await sink.wait(lambda: 2 == len(sink.titles("slack-pneumonia-sre")), "its end in Slack")

    assert {("PneumoniaServiceDown", "critical")} == sink.ours("resolved")
    assert "[RESOLVED] CRITICAL PneumoniaServiceDown (pneumonia)" in sink.titles("slack-pneumonia-sre")
    assert 0 == sink.unauthorised


async def test_two_subjects_are_two_groups(tmp_path: Path) -> None:
    """Two overdue tasks of one system come to us in groups of their own: the end of one does not wait."""
    async with alertmanager(tmp_path) as (server, sink):
        for task in ("backup-model-daily", "backup-config-daily"):
            await server.fire("OpsTaskOverdue", system="pneumonia", severity="warning", task=task)
        await sink.wait(lambda: 2 == len(sink.groups), "two groups")

    assert {"backup-model-daily", "backup-config-daily"} == {tasks for _, tasks in sink.groups}
