"""What `remediator permissions` prints is given to the real servers as it stands, and is enough for what the rules ask."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from pydantic import BaseModel

from remediator.domain.rules import Mode
from remediator.privilege.forms import render
from remediator.privilege.uses import Use
from tests.support import docker_cases, engine_contract, kubernetes_cases, redis_cases, s3_cases
from tests.support.docker_line import DockerLine
from tests.support.dockerd import DockerEngine
from tests.support.kubernetes import KubernetesCluster
from tests.support.minio import MinioServer
from tests.support.postgres_cases import MAKERS as ON_POSTGRES
from tests.support.postgres_cases import Make
from tests.support.postgres_cases import in_time as planned_in_time
from tests.support.redis import RedisServer

pytest_plugins = ["tests.support.kubernetes_fixtures", "tests.support.postgres_fixtures"]
PASSWORD = "open-sesame-1"


def use(connection: BaseModel, action: Any, params: Any) -> Use:
    """A use of an action by some rule."""
    needs = action(connection).permissions(params)
    return Use("shop", "it", connection, "a-rule", "a-playbook", "a step", Mode.APPROVE, needs)


def printed(form: str, *uses: Use) -> list[str]:
    """The lines that are no comments."""
    return [line for line in render(uses, [form]).splitlines() if not line.startswith(("#", "--"))]


async def test_redis_takes_the_acl(redis_server: RedisServer, tmp_path: Path) -> None:
    """The printed line, and a password set apart: the user can do what the rule asks for, and reads no other key."""
    case = redis_cases.MAKERS["redis.unlink_prefix"](redis_server)
    password = redis_cases.password_file(tmp_path, PASSWORD)
    connection = case.connection(username="reader", password_file=password)
    with redis_server.client() as admin:
        for line in printed("redis", use(connection, case.action, case.parameters())):
            admin.execute_command(*shlex.split(line))
        admin.execute_command("ACL", "SETUSER", "reader", f">{PASSWORD}")
    async with redis_cases.acting(case, connection) as action:
        assert (await action.apply(await redis_cases.planned(action, case))).changed
    with (
        redis_server.client(db=redis_cases.DB, username="reader", password=PASSWORD) as reader,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        reader.get("session:1")


@pytest.mark.parametrize("kind", sorted(ON_POSTGRES))
async def test_postgres_takes_the_grants(kind: str, make_case: Make) -> None:
    """The printed statements, run by the superuser, are enough for the role that the connection names."""
    case = make_case(kind)
    case.home.revoke(case.rights())
    before = case.look()
    for line in printed("postgres", use(case.home.connection(), case.action, case.parameters())):
        case.home.admin(line.replace("{", "{{").replace("}", "}}"))
    action = case.action(case.home.connection())
    await action.apply(await planned_in_time(action, case))

    assert case.done(before, case.look())


@pytest.fixture
def case_in_cluster(
    request: pytest.FixtureRequest, kubernetes: KubernetesCluster
) -> Iterator[kubernetes_cases.Case]:
    """A use of an action in the cluster."""
    case = kubernetes_cases.MAKERS[request.param](kubernetes)
    yield case
    case.clean()


@pytest.mark.parametrize(
    "case_in_cluster",
    ["kubernetes.scale", "kubernetes.cordon", "kubernetes.run_cronjob"],
    indirect=True,
)
async def test_kubernetes_takes_the_manifests(
    case_in_cluster: kubernetes_cases.Case, kubernetes: KubernetesCluster
) -> None:
    """The printed objects, made as they stand: their service account can do what the rule asks for."""
    case = case_in_cluster
    connection = case.connection(kubernetes.admin_kubeconfig())
    text = render([use(connection, case.action, case.parameters())], ["kubernetes"])
    documents = [one for one in yaml.safe_load_all(text) if one]
    home = kubernetes.namespace()
    for one in documents:
        # The page says to change the one name where the service runs in another namespace.
        for who in (one["metadata"], *one.get("subjects", ())):
            who.update({"namespace": home} if who.get("namespace") == "remediator" else {})
    kubernetes.apply(documents)
    rules = [
        {"namespace": one["metadata"].get("namespace", ""), **rule}
        for one in documents
        for rule in one.get("rules", ())
    ]
    account = documents[0]["metadata"]["name"]
    try:
        action = case.action(case.connection(kubernetes.kubeconfig_of(account, rules, home=home)))
        params = case.parameters()
        (effect,) = action.plan(params, await action.observe(params))
        result = await action.apply(effect)
        if effect.undo:
            await action.undo(effect, result)
        await action.close()
    finally:
        for kind in ("clusterrole", "clusterrolebinding"):
            if kubernetes.get(f"/apis/rbac.authorization.k8s.io/v1/{kind}s/{account}"):
                kubernetes.call("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}s/{account}")

    assert result.changed


@pytest.mark.parametrize("kind", sorted(set(s3_cases.MAKERS) - set(s3_cases.ON_MOTO)))
async def test_s3_takes_the_policy(kind: str, minio_server: MinioServer, tmp_path: Path) -> None:
    """The printed JSON is a policy, and credentials with just it can do what the rule asks for, and undo it."""
    account = s3_cases.Account(minio_server.url, minio_server.access_key, minio_server.secret_key, tmp_path)
    case = s3_cases.MAKERS[kind](account, tmp_path)
    own = case.make()
    needs = own.permissions(case.parameters())
    await own.close()
    asked = Use("shop", "it", own._connection, "a-rule", "a-playbook", "a step", Mode.APPROVE, needs)
    policy = json.loads("\n".join(printed("iam", asked)))
    action = case.make(secrets=account.assumed(policy["Statement"]))
    params = case.parameters()
    (effect,) = action.plan(params, await action.observe(params))
    result = await action.apply(effect)
    if effect.undo:
        await action.undo(effect, result)
    await action.close()

    assert result.changed


@pytest.mark.parametrize("kind", sorted(docker_cases.MAKERS))
async def test_a_socket_proxy_takes_the_calls(kind: str, docker_engine: DockerEngine) -> None:
    """With a proxy in front of the engine that lets just the printed calls through, it can be done."""
    case = docker_cases.MAKERS[kind](docker_engine)
    connection = case.connect(docker_engine.base_url)
    lines = printed("docker", use(connection, case.action, case.parameters()))
    async with (
        DockerLine(docker_engine, allow=lines) as line,
        engine_contract.acting(case, line.base_url) as action,
    ):
        assert (await action.apply(await engine_contract.planned(action, case))).changed

    assert [] == line.refused
