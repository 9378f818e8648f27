"""Settings: from the file and the environment, with secrets from files, and what is told when they are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import bcrypt
import pytest
from pydantic import SecretStr

from remediator.domain.rules import Mode
from remediator.errors import ConfigError
from remediator.settings import Settings, listed, load_settings
from tests.unit.badfiles import alone, cases, expected, told

ROOT = Path(__file__).resolve().parents[2]
OPEN = "server: {allow_unauthenticated: true}\n"


def load(folder: Path, text: str = OPEN, environ: Mapping[str, str] | None = None) -> Settings:
    """Load settings from a text and a made-up environment."""
    path = folder / "remediator.yml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environ or {})


def wrong(folder: Path, text: str = OPEN, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the findings of settings that are wrong."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return told(caught.value.findings, folder)


@pytest.mark.parametrize("name", cases("settings"))
def test_a_fault_is_told(name: str, tmp_path: Path) -> None:
    """Each faulty file stops the start with exactly its findings, at their places, and without its secrets."""
    path = alone("settings", name, tmp_path)

    with pytest.raises(ConfigError) as caught:
        load_settings(path, {})

    assert expected("settings", name) == told(caught.value.findings, tmp_path)
    assert "hunter2" not in str(caught.value)


def test_the_defaults_touch_nothing(tmp_path: Path) -> None:
    """Without a word about it the service only suggests, listens to this machine only, and has no Slack."""
    settings = load(tmp_path)

    assert (Mode.SUGGEST, "127.0.0.1", False) == (
        settings.mode,
        settings.server.host,
        settings.slack.enabled,
    )


def test_without_a_file(tmp_path: Path) -> None:
    """The environment alone is enough."""
    settings = load_settings(None, {"REMEDIATOR_SERVER__WEBHOOK__BEARER_TOKEN": "hunter2"})

    assert settings.server.webhook.bearer_token == SecretStr("hunter2")


def test_the_environment_wins(tmp_path: Path) -> None:
    """A variable overrides one setting and leaves its neighbours to the file; lists are JSON."""
    text = "mode: approve\nserver: {allow_unauthenticated: true, port: 1, body_limit_bytes: 5000}\n"
    environ = {
        "REMEDIATOR_SERVER__PORT": "9",
        "remediator_mode": "auto",
        "REMEDIATOR_PEOPLE": '[{"name": "alice", "groups": ["ops"]}]',
        "PATH": "/bin",
    }

    settings = load(tmp_path, text, environ)

    assert (Mode.AUTO, 9, 5000) == (settings.mode, settings.server.port, settings.server.body_limit_bytes)
    assert [("alice", ("ops",))] == [(person.name, person.groups) for person in settings.people]


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """Every secret may stand in a file; only the newline at its end is not part of it."""
    (tmp_path / "token").write_text("hun ter2\n", encoding="utf-8")
    (tmp_path / "person").write_text("alices-token", encoding="utf-8")
    hash_ = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"# who may post\nam-1:{hash_}\nam-2:{hash_}\n", encoding="utf-8")
    text = """
server: {webhook: {bearer_token_file: token, basic_users_file: users}}
people: [{name: alice, token_file: person}]
"""

    settings = load(tmp_path, text, {"REMEDIATOR_PROMETHEUS__BEARER_TOKEN_FILE": str(tmp_path / "token")})

    assert settings.server.webhook.bearer_token == SecretStr("hun ter2")
    assert settings.server.webhook.basic_users == {"am-1": SecretStr(hash_), "am-2": SecretStr(hash_)}
    assert settings.people[0].token == SecretStr("alices-token")
    assert settings.prometheus.bearer_token == SecretStr("hun ter2")


def test_a_variable_beats_a_file_of_the_file(tmp_path: Path) -> None:
    """A secret of the environment replaces one whose file remediator.yml names."""
    (tmp_path / "token").write_text("old", encoding="utf-8")
    text = "server: {webhook: {bearer_token_file: token}}\n"

    settings = load(tmp_path, text, {"REMEDIATOR_SERVER__WEBHOOK__BEARER_TOKEN": "new"})

    assert settings.server.webhook.bearer_token == SecretStr("new")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \n", b"\xff\n"], ids=["empty", "newline", "blank", "binary"]
)
def test_a_secret_file_without_a_secret(content: bytes, tmp_path: Path) -> None:
    """An empty secret would let everybody in: it stops the start."""
    (tmp_path / "token").write_bytes(content)

    findings = wrong(tmp_path, "server: {webhook: {bearer_token_file: token}}\n")

    assert 1 == len(findings)
    assert findings[0].startswith("remediator.yml:1:"), findings


def test_users_that_are_none(tmp_path: Path) -> None:
    """A file of users whose lines are not `name:hash` is told as such."""
    (tmp_path / "users").write_text("alertmanager\n", encoding="utf-8")

    findings = wrong(tmp_path, "server: {webhook: {basic_users_file: users}}\n")

    assert ["remediator.yml:1:38: error: a line of the file users is not like name:hash"] == [
        finding for finding in findings if "is not like" in finding
    ]


def test_faults_of_the_environment_name_the_variable(tmp_path: Path) -> None:
    """A wrong value, a misspelt name, broken JSON and a missing file are all told, with those of the file."""
    environ = {
        "REMEDIATOR_SERVER__PORT": "http",
        "REMEDIATOR_SERVER__PROT": "80",
        "REMEDIATOR_PEOPLE": "[",
        "REMEDIATOR_MODUS": "auto",
        "REMEDIATOR_LEGDER__URL": "sqlite:///x",
        "REMEDIATOR_SLACK__BOT_TOKEN_FILE": "/nowhere/token",
        # What Kubernetes sets for a Service of this name is not ours to judge.
        "REMEDIATOR_PORT": "tcp://10.0.0.1:8080",
        "REMEDIATOR_SERVICE_HOST": "10.0.0.1",
    }
    known = "alertmanager, journal, ledger, log, mode, paths, people, prometheus, recording, server, slack"

    findings = wrong(tmp_path, OPEN + "log: {level: loud}\n", environ)

    assert [
        f"environment:1:1: error: REMEDIATOR_LEGDER__URL: there is no setting 'legder'; expected {known}; did you mean 'ledger'?",
        f"environment:1:1: error: REMEDIATOR_MODUS: there is no setting 'modus'; expected {known}; did you mean 'mode'?",
        "environment:1:1: error: REMEDIATOR_PEOPLE: this is not JSON",
        "environment:1:1: error: REMEDIATOR_SERVER__PORT: port: found 'http', expected a whole number",
        "environment:1:1: error: REMEDIATOR_SERVER__PROT: unknown key 'prot'; expected one of allow_unauthenticated, body_limit_bytes, host, port, public_url, session_key, session_key_file, webhook; did you mean 'port'?",
        "environment:1:1: error: REMEDIATOR_SLACK__BOT_TOKEN_FILE: the file /nowhere/token cannot be read: No such file or directory",
        "remediator.yml:2:14: error: level: found 'loud', expected debug, info, warning or error",
    ] == sorted(findings)


def test_no_file_at_that_path(tmp_path: Path) -> None:
    """A path that was given and is not there is a finding; the defaults do not stand in for it."""
    with pytest.raises(ConfigError, match=r"none\.yml:1:1: error: cannot be read: No such file"):
        load_settings(tmp_path / "none.yml", {})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "remediator", "127.0.0.1.nip.io")],
    ],
)
def test_loopback(host: str, loopback: bool, tmp_path: Path) -> None:
    """Doing without authentication is only for an address that no other machine can reach."""
    text = f'server: {{host: "{host}", allow_unauthenticated: true}}\n'

    if loopback:
        assert host == load(tmp_path, text).server.host
    else:
        assert "only for a loopback host" in wrong(tmp_path, text)[0]


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    """Relative paths, the defaults too, are found wherever the service was started; absolute ones stay."""
    text = (
        OPEN + "journal: {anchor_file: heads}\nledger: {url: 'sqlite:///data/l.db'}\npaths: {rules: /etc/r}\n"
    )

    settings = load(tmp_path, text)

    assert tmp_path / "heads" == settings.journal.anchor_file
    assert tmp_path / "data" / "l.db" == settings.ledger.path
    assert Path("/etc/r") == settings.paths.rules
    assert tmp_path / "playbooks" == settings.paths.playbooks
    assert tmp_path / "remediator.db" == load(tmp_path).ledger.path


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Printing the settings, as a careless log line would, shows none of their secrets."""
    hash_ = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
    text = f"""
server: {{session_key: hunter2-hunter2-hunter2-hunter2-hunter2, webhook: {{bearer_token: hunter2, basic_users: {{am: "{hash_}"}}}}}}
prometheus: {{bearer_token: hunter2}}
alertmanager: {{bearer_token: hunter2}}
slack: {{bot_token: hunter2, signing_secret: hunter2, app_token: hunter2, channel: "#ops"}}
people: [{{name: alice, token: hunter2}}]
"""

    settings = load(tmp_path, text)

    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.slack.enabled
    assert ("hunter2" in shown, hash_ in shown) == (False, False)


def test_every_secret_is_a_secret() -> None:
    """What is called a token, a secret, a key or a password is never a plain text."""
    words = ("token", "secret", "key", "password", "basic_users")
    plain = [setting.name for setting in listed() if setting.name.endswith(words) and not setting.secret]

    assert [] == plain
    assert 9 == len([setting for setting in listed() if setting.secret])


def test_every_setting_is_on_the_page() -> None:
    """docs/settings.md has a row for each setting, with its variable, its default and its meaning as in the code."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [
        f"| `{setting.name}` | {f'`{setting.variable}`' if setting.variable else 'in `REMEDIATOR_PEOPLE`'} |"
        f" {f'`{setting.default}`' if setting.default else ''} | {'**secret** ' * setting.secret}{setting.meaning} |"
        for setting in listed()
    ]

    assert [] == [row for row in rows if row not in page.splitlines()]
    assert [] == [setting.name for setting in listed() if not setting.meaning]
    assert len(rows) == sum(line.startswith("| `") for line in page.splitlines())


def test_the_example_loads() -> None:
    """remediator.example.yml, as it is shipped, starts on this machine, in dry-run."""
    settings = load_settings(ROOT / "remediator.example.yml", {})

    assert (Mode.SUGGEST, True) == (settings.mode, settings.server.allow_unauthenticated)
    assert (ROOT / "rules", ROOT / "playbooks") == (settings.paths.rules, settings.paths.playbooks)
