"""The contract of every Kubernetes action, on a real control plane with RBAC on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.domain.plans import Effect, Progress
from remediator.errors import ActionError, Drifted, OutcomeUnknown, Refused
from tests.support.contract import each_of
from tests.support.kubernetes import KubernetesCluster
from tests.support.kubernetes_cases import MAKERS, Case
from tests.support.lost_answers import LostAnswers
from tests.support.passage import When
from tests.support.waiting import until

pytest_plugins = ["tests.support.kubernetes_fixtures"]

HOSTILE = (
    "../secrets",
    "api;reboot",
    "api\nprod",
    "*",
    "",
    "api/../other",
    "API",
    "other-tenants",
    "a" * 300,
)

REVERSIBLE = (
    "kubernetes.scale",
    "kubernetes.raise_hpa_ceiling",
    "kubernetes.rollout_undo",
    "kubernetes.run_cronjob",
    "kubernetes.cordon",
    "kubernetes.uncordon",
    "kubernetes.drain",
    "kubernetes.set_config_key",
)

Make = Callable[[str], Case]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def make(kubernetes: KubernetesCluster) -> Iterator[Make]:
    """Make a use of an action, with objects of its own."""
    made: list[Case] = []

    def one(kind: str) -> Case:
        made.append(MAKERS[kind](kubernetes))
        return made[-1]

    yield one
    for case in made:
        case.clean()


@asynccontextmanager
async def acting(case: Case, kubeconfig: Path) -> AsyncIterator[Any]:
    """The action on that connection, closed at the end."""
    action = case.action(case.connection(kubeconfig))
    try:
        yield action
    finally:
        await action.close()


async def planned(action: Any, case: Case) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    params = case.parameters()
    effects = action.plan(params, await action.observe(params))
    assert len(effects) == 1
    return Effect(**json.loads(json.dumps(asdict(effects[0]))))


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(
    kind: str, make: Make, kubernetes: KubernetesCluster
) -> None:
    """Observing and planning twice gives the same effect, names the subject and leaves the cluster as it was."""
    case = make(kind)
    before = case.look()
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        first, second = await planned(action, case), await planned(action, case)
        seen = await action.observe(case.parameters())

    assert (first.before, first.after, first.at_most) == (second.before, second.after, second.at_most)
    assert kind == first.action
    assert str(case.params[case.subject]).rsplit("/", 1)[-1] in first.summary
    assert first.figures
    assert first.irreversible == (kind == "kubernetes.grow_volume")
    assert bool(first.undo) == (kind in REVERSIBLE)
    assert action.progress(first, seen) is Progress.UNTOUCHED
    assert before == case.look()


@each("apply")
async def test_apply_does_what_was_planned(kind: str, make: Make, kubernetes: KubernetesCluster) -> None:
    """After apply the administrator sees the planned effect, and so does a second look."""
    case = make(kind)
    before = case.look()
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        until(lambda: case.done(before, case.look()), within=30, what="the planned effect")
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert result.changed
    assert progress is Progress.DONE


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, make: Make, kubernetes: KubernetesCluster) -> None:
    """Applying the same effect again changes nothing and says so."""
    case = make(kind)
    before = case.look()
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        effect = await planned(action, case)
        await action.apply(effect)
        until(lambda: case.done(before, case.look()), within=30, what="the planned effect")
        after = case.look()
        again = await action.apply(effect)

    assert not again.changed
    assert after == case.look()


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, make: Make, kubernetes: KubernetesCluster) -> None:
    """What somebody else changed after the plan is left as they changed it."""
    case = make(kind)
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        effect = await planned(action, case)
        case.spoil()
        spoilt = case.look()
        with pytest.raises(Drifted):
            await action.apply(effect)

    assert spoilt == case.look()


@each("undo")
async def test_undo_restores_or_says_that_nothing_can(
    kind: str, make: Make, kubernetes: KubernetesCluster
) -> None:
    """What can be taken back is as before afterwards, and a second undo changes nothing; the rest is refused."""
    case = make(kind)
    before = case.look()
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        until(lambda: case.done(before, case.look()), within=30, what="the planned effect")
        if case.undone is None:
            with pytest.raises(Refused):
                await action.undo(effect, result)
            return
        undone = case.undone
        first = await action.undo(effect, result)
        until(lambda: undone(before, case.look()), within=30, what="the undo")
        second = await action.undo(effect, result)

    assert kind in REVERSIBLE
    assert first.changed
    assert not second.changed


@each("hostile")
async def test_hostile_names_are_refused(kind: str, make: Make, kubernetes: KubernetesCluster) -> None:
    """A name with a path, a separator, a wildcard, or of another tenant is no parameter, or is refused; so is an
    effect that was changed to name it.
    """
    case = make(kind)
    before = case.look()
    prefix = "Deployment/" if case.subject == "workload" else ""
    fields = [case.subject, *(["namespace"] if "namespace" in case.params else [])]
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        effect = await planned(action, case)
        for field in fields:
            for value in HOSTILE:
                named = value if field == "namespace" else prefix + value
                with pytest.raises((ValidationError, Refused)):
                    await action.observe(case.parameters(**{field: named}))
                forged = replace(effect, params={**effect.params, field: named})
                with pytest.raises((ValidationError, ActionError)):
                    await action.apply(forged)

    assert before == case.look()


@pytest.mark.parametrize("when", ["before", "after"])
@each("dies")
async def test_a_server_that_dies_leaves_a_defined_outcome(
    kind: str, when: When, make: Make, kubernetes: KubernetesCluster
) -> None:
    """When the API server dies at the change, the outcome is unknown; a second look, at the server that takes over,
    tells whether it happened, and the same effect then does the rest, or nothing.
    """
    case = make(kind)
    before = case.look()
    rules = await rights(case, kubernetes)
    kubernetes.spare.start()
    way = LostAnswers(
        kubernetes.spare_url, kubernetes.authority.certificate_file, when=when, kill=kubernetes.spare.kill
    )
    async with way:
        kubeconfig = kubernetes.kubeconfig_with(rules, home=case.objects.namespace, server=way.url)
        async with acting(case, kubeconfig) as action:
            effect = await planned(action, case)
            with pytest.raises(OutcomeUnknown):
                await action.apply(effect)
            way.upstream = kubernetes.url
            seen = action.progress(effect, await action.observe(case.parameters()))
            again = await action.apply(effect)

    assert len(way.lost) == 1
    if when == "before":
        assert seen is Progress.UNTOUCHED
        assert again.changed
    elif kind == "kubernetes.drain":
        # Only its first change, the cordon, was carried out.
        assert seen is Progress.UNCLEAR
        assert again.changed
    else:
        # A rollout that was begun may still be under way.
        assert seen is Progress.DONE or (seen is Progress.UNCLEAR and "rollout" in kind)
        assert not again.changed
    until(lambda: case.done(before, case.look()), within=30, what="the planned effect, once")


@each("privilege")
async def test_the_printed_rights_are_enough_and_one_less_is_not(
    kind: str, make: Make, kubernetes: KubernetesCluster
) -> None:
    """With the Role that `permissions` prints everything works; without any one of its verbs something does not."""
    case = make(kind)
    before, rules = case.look(), await rights(case, kubernetes)
    for number, verb in [(n, verb) for n, rule in enumerate(rules) for verb in rule["verbs"]]:
        less = [dict(rule) for rule in rules]
        less[number]["verbs"] = [one for one in rules[number]["verbs"] if one != verb]
        kubeconfig = kubernetes.kubeconfig_with(
            [rule for rule in less if rule["verbs"]], home=case.objects.namespace
        )
        async with acting(case, kubeconfig) as action:
            with pytest.raises(ActionError, match="was answered 403"):
                await whole_use(action, case, before)
        if case.look() != before:
            # It was refused only at the undo.
            case = make(kind)
            before, rules = case.look(), await rights(case, kubernetes)

    kubeconfig = kubernetes.kubeconfig_with(rules, home=case.objects.namespace)
    async with acting(case, kubeconfig) as action:
        await whole_use(action, case, before)


async def rights(case: Case, kubernetes: KubernetesCluster) -> list[dict[str, Any]]:
    """What `permissions` says that this use needs."""
    async with acting(case, kubernetes.admin_kubeconfig()) as action:
        return [dict(rule) for rule in action.permissions(case.parameters()).kubernetes]


async def whole_use(action: Any, case: Case, before: Any) -> None:
    """Look, plan, apply and, where it can be, undo."""
    effect = await planned(action, case)
    result = await action.apply(effect)
    until(lambda: case.done(before, case.look()), within=30, what="the planned effect")
    if effect.undo:
        await action.undo(effect, result)
