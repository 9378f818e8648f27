"""`remediator permissions`: which uses the rules lead to, and what each system is told to allow."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from remediator.actions.docker import DockerConnection
from remediator.actions.redis import RedisConnection
from remediator.adapters.rulebook import RuleBook, System
from remediator.domain.matchers import parse_matchers
from remediator.domain.playbooks import Choice, Parameter, Playbook, Reference, Step
from remediator.domain.rules import Mode, Rule, RuleTable, Rung
from remediator.pipeline.ports import Permissions
from remediator.privilege.forms import FORMS, NOTHING, iam, postgres, redis, render, systemd
from remediator.privilege.uses import Gathered, Use, choices, gather

ROOT = Path(__file__).resolve().parents[2]
CACHE = RedisConnection(
    kind="redis", url="redis://cache:6379/1", username="janitor", prefixes=("seg:", "tmp:")
)
ENGINE = DockerConnection(kind="docker", containers=("api", "worker"))
NAMES = ("connection", "container")
RESTART = Playbook(
    "restart",
    "Restart",
    "low",
    (Step("restart", "docker.restart", {name: Reference(name) for name in NAMES}),),
    {name: Parameter(name) for name in NAMES},
)
RUNBOOK = Playbook("look", "Look", "low", (), checklist=("look",))


def book(*rungs: Rung, match: str = 'alertname="Down"') -> RuleBook:
    """One rule with this ladder, on an engine with two containers."""
    rule = Rule("api-down", "shop", parse_matchers(match), rungs)
    system = System("shop", connections={"engine": ENGINE})
    return RuleBook(RuleTable([rule]), {"shop": system}, {"restart": RESTART, "look": RUNBOOK})


def restarting(container: Any, mode: Mode = Mode.APPROVE, connection: str = "engine") -> Rung:
    """A rung that restarts a container."""
    return Rung("restart", {"connection": connection, "container": container}, mode)


def use(
    needs: Permissions, *, rule: str = "rule", settings: BaseModel = CACHE, place: str = "shop/cache"
) -> Use:
    """One use of an action that needs this."""
    system, connection = place.split("/")
    return Use(system, connection, settings, rule, "book", "step", Mode.APPROVE, needs)


def containers(gathered: Gathered) -> list[str]:
    """The containers that are named in what is needed."""
    calls = [call for one in gathered.uses for call in one.needs.docker]
    return [call.split("/")[2] for call in calls if call.startswith("GET /containers/") and "{" not in call]


async def test_every_value_that_a_label_can_choose_is_needed() -> None:
    """A choice among containers needs the privilege of each of them."""
    either = Choice("name", {"a": "api", "w": "worker"})

    assert ["api", "worker"] == containers(await gather(book(restarting(either))))


async def test_a_value_that_the_rule_never_lets_through_is_not_needed() -> None:
    """What the rule's matchers exclude can never be chosen."""
    either = Choice("name", {"a": "api", "w": "worker"})

    assert ["worker"] == containers(
        await gather(book(restarting(either), match='alertname="Down", name=~"w|x"'))
    )


def test_one_label_chooses_for_all_arguments_at_once() -> None:
    """Two choices by the same label are no product: a namespace and its own workload belong together."""
    rung = Rung(
        "x",
        {
            "a": Choice("app", {"1": 1, "2": 2}),
            "b": Choice("app", {"2": 3, "3": 4}),
            "c": Choice("z", {"z": 1}),
        },
    )

    assert [{"app": "2", "z": "z"}] == list(choices(Rule("r", "s", (), (rung,)), rung))


@pytest.mark.parametrize(
    "rung",
    [
        pytest.param(restarting("api", Mode.NOTIFY), id="notify"),
        pytest.param(Rung("look", mode=Mode.SUGGEST), id="runbook"),
        pytest.param(Rung("", mode=Mode.NOTIFY), id="no-playbook"),
    ],
)
async def test_what_a_person_does_needs_nothing(rung: Rung) -> None:
    """Rungs that never act ask for no privilege."""
    assert Gathered(()) == await gather(book(rung))


@pytest.mark.parametrize(
    ("rung", "why"),
    [
        pytest.param(restarting("api", connection="other"), "no connection 'other'", id="no-connection"),
        pytest.param(restarting("a b"), "container", id="no-parameter"),
    ],
)
async def test_what_cannot_be_told_is_a_problem(rung: Rung, why: str) -> None:
    """One use that cannot be told is named with its place, and does not hide the others."""
    gathered = await gather(book(restarting("api"), rung))

    assert ["api"] == containers(gathered)
    assert 1 == len(gathered.problems)
    assert gathered.problems[0].startswith("api-down -> restart -> restart: ")
    assert why in gathered.problems[0]


async def test_one_rule_can_be_asked_for() -> None:
    """Only the named rules are gathered; a name that is none is a problem, not an empty answer."""
    assert 1 == len((await gather(book(restarting("api")), ["api-down"])).uses)
    assert Gathered((), ("there is no rule 'nope'",)) == await gather(book(restarting("api")), ["nope"])


def test_every_kind_of_privilege_has_a_form() -> None:
    """What an action can say that it needs is printed: no field of Permissions is left out."""
    assert {field.name for field in dataclasses.fields(Permissions)} == set(FORMS)


def kubernetes_rule(namespace: str, resource: str, *verbs: str, **names: Any) -> Mapping[str, Any]:
    """A rule as an action gives it."""
    return {
        "namespace": namespace,
        "apiGroups": ["apps"],
        "resources": [resource],
        **names,
        "verbs": [*verbs],
    }


def test_kubernetes_gets_roles_by_namespace() -> None:
    """What has a namespace is in its Role, what has none in a ClusterRole; the same objects are one rule."""
    uses = [
        use(Permissions(kubernetes=(kubernetes_rule("web", "deployments", "get", resourceNames=["api"]),))),
        use(
            Permissions(
                kubernetes=(
                    kubernetes_rule("web", "deployments", "get", "patch", resourceNames=["api"]),
                    kubernetes_rule("", "nodes", "list"),
                )
            ),
            rule="other",
        ),
    ]
    text = render(uses, ["kubernetes"])
    documents = list(yaml.safe_load_all(text))

    kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
    assert kinds == [one["kind"] for one in documents]
    assert [{"apiGroups": ["apps"], "resources": ["nodes"], "verbs": ["list"]}] == documents[1]["rules"]
    api = {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["api"]}
    assert [{**api, "verbs": ["get", "patch"]}] == documents[3]["rules"]
    assert "web" == documents[3]["metadata"]["namespace"] == documents[4]["metadata"]["namespace"]
    subject = {"kind": "ServiceAccount", **documents[0]["metadata"]}
    assert [subject] == documents[2]["subjects"] == documents[4]["subjects"]
    assert "  # rule -> book -> step (approve)\n  # other -> book -> step (approve)\n  - {" in text


def test_a_policy_is_json_and_its_sids_tell_the_sources() -> None:
    """Without its comments it is a policy; equal statements are one; each Sid is different, letters and digits."""
    read = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b/k"]}
    write = {**read, "Action": ["s3:PutObject"]}
    text = iam([use(Permissions(iam=(read, write))), use(Permissions(iam=(read,)), rule="other-rule")])
    policy = json.loads("".join(line for line in text.splitlines() if not line.startswith("#")))

    assert "2012-10-17" == policy["Version"]
    assert ["RuleBookStep", "RuleBookStepN2"] == [one.pop("Sid") for one in policy["Statement"]]
    assert [read, write] == policy["Statement"]
    assert "# RuleBookStep: other-rule -> book -> step (approve)\n" in text


def test_redis_gets_one_line_per_server_and_user() -> None:
    """An ACL holds for all databases of a server, so two connections to it make one line, and do not undo each other."""
    other = CACHE.model_copy(update={"url": "redis://cache:6379/2"})
    uses = [
        use(Permissions(redis=("+scan", "+unlink", "~seg:*"))),
        use(Permissions(redis=("+scan", "+unlink", "~tmp:*")), settings=other, place="shop/other"),
        use(Permissions(redis=("+info",)), rule="diagnose"),
    ]
    lines = [line for line in redis(uses).splitlines() if not line.startswith("#")]

    assert [
        "ACL SETUSER janitor on resetkeys resetchannels nocommands +info +scan +unlink ~seg:* ~tmp:*"
    ] == lines
    assert "# +info  diagnose -> book -> step (approve)\n" in redis(uses)


def test_redis_keeps_different_commands_on_different_keys_apart() -> None:
    """Reading under one prefix and unlinking under another never adds up to unlinking under both."""
    uses = [
        use(Permissions(redis=("+unlink", "~tmp:*"))),
        use(Permissions(redis=("+get", "~seg:*", "+info"))),
    ]

    assert redis(uses).endswith("nocommands clearselectors (+unlink ~tmp:*) (+get +info ~seg:*)\n")


def test_postgres_gets_grants_for_the_role_of_the_connection() -> None:
    """Each statement once, for the quoted role, under what needs it."""
    from remediator.actions.postgres import PostgresConnection

    database = PostgresConnection(kind="postgres", dsn='host=db user=jan"itor dbname=shop')
    needs = Permissions(postgres=('CONNECT ON DATABASE "shop"', "pg_read_all_stats"))
    text = postgres([use(needs, settings=database), use(needs, settings=database, rule="two")])

    assert [
        "-- shop/cache: run in db:5432/shop, as who may grant it",
        "-- rule -> book -> step (approve)",
        "-- two -> book -> step (approve)",
        'GRANT CONNECT ON DATABASE "shop" TO "jan""itor";',
        'GRANT pg_read_all_stats TO "jan""itor";',
    ] == text.splitlines()


def test_systemd_gets_a_polkit_rule() -> None:
    """One condition for each unit and verb, for our user and for nobody else; a quote stays inside its text."""
    manage = "org.freedesktop.systemd1.manage-units"
    text = systemd([use(Permissions(systemd=({"action": manage, "unit": 'a".service', "verb": "restart"},)))])

    assert 'if (subject.user !== "remediator") { return polkit.Result.NOT_HANDLED; }' in text
    condition = (
        f'action.id === "{manage}" && action.lookup("unit") === "a\\".service"'
        ' && action.lookup("verb") === "restart"'
    )
    assert (
        f"    // rule -> book -> step (approve)\n    if ({condition}) {{ return polkit.Result.YES; }}\n"
        in text
    )


@pytest.mark.parametrize("form", ["docker", "files", "http", "other"])
def test_lists_are_told_with_their_sources(form: str) -> None:
    """What has no language of its own is a list; neighbours with the same sources share the comment."""
    lines: Any = ("one", "two")
    needs = Permissions(**{form: lines})

    assert "# shop/cache\n# rule -> book -> step (approve)\none\ntwo\n" == render([use(needs)], [form])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_nothing_is_said_to_be_nothing(form: str) -> None:
    """Without a need a form is a comment in its own language; among several forms it is left out."""
    assert f"{FORMS[form][1]} {NOTHING}\n" == render([], [form])
    assert f"# {NOTHING}\n" == render([], list(FORMS))


@pytest.mark.parametrize("form", ["kubernetes", "iam", "redis", "postgres", "docker", "systemd"])
def test_a_name_never_ends_its_comment(form: str) -> None:
    """A step or rule named with a newline does not bring a line of its own into what is printed."""
    value: Any = {
        "kubernetes": kubernetes_rule("web", "pods", "get"),
        "iam": {"Effect": "Allow"},
        "systemd": {"unit": "a.service"},
    }.get(form, "+info")
    text = render([use(Permissions(**{form: (value,)}), rule="a\nGRANT ALL")], [form])

    assert "a GRANT ALL -> book" in text
    assert [] == [line for line in text.splitlines() if line.strip().startswith("GRANT ALL")]


def test_the_shipped_rules_are_told_without_connecting() -> None:
    """The command loads every action that the shipped rules use, and opens no connection."""
    script = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event in ('socket.connect', 'subprocess.Popen', 'os.exec'): raise SystemExit(f'it did {event} {args}')\n"
        "sys.addaudithook(watch)\n"
        "from remediator.commands.permissions import told\n"
        "print(told(None)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == done.returncode, done.stderr
    assert "nocommands +scan" in done.stdout
    assert "POST /containers/{id}/restart" in done.stdout


def test_the_page_names_every_form() -> None:
    """docs/permissions.md has a section for every form."""
    page = (ROOT / "docs/permissions.md").read_text(encoding="utf-8")

    assert [] == [title for title, _, _ in FORMS.values() if f"## {title}\n" not in page]


def test_the_page_names_every_action_that_starts_a_program() -> None:
    """Whoever reads which programs a host needs is told of all of them."""
    page = (ROOT / "docs/permissions.md").read_text(encoding="utf-8")
    table = page.partition("## Programs on the host of this service\n")[2]
    folder = ROOT / "remediator/actions"
    starts = re.compile(r"create_subprocess|from remediator\.programs import .*\brun\b")
    starting = {
        path.relative_to(folder).parts[0].removesuffix(".py")
        for path in folder.rglob("*.py")
        if starts.search(path.read_text(encoding="utf-8"))
    }

    assert {"compose", "evidence", "firewall", "nginx", "postgres"} == starting
    assert [] == [name for name in sorted(starting) if f"| `{name}." not in table]
