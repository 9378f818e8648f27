"""Kubernetes: a ServiceAccount, a Role and RoleBinding in each namespace, and a ClusterRole for what has none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from remediator.privilege.uses import Use, by_place, commented, traced

HOME = "remediator"
"""The namespace that the ServiceAccount stands in. A choice of ours: change it where you run in another."""


def kubernetes(uses: Sequence[Use]) -> str:
    """YAML documents; each rule stands under the comments that tell what asks for it."""
    documents: list[str] = []
    for place, of_place in by_place(uses).items():
        rules = _rules(of_place)
        if rules:
            documents += _documents(place, rules)
    return "---\n".join(documents)


def _rules(uses: Sequence[Use]) -> dict[str, dict[str, list[str]]]:
    """By namespace: the rules as YAML lines, with their sources. Rules on the same objects are one."""
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    sources: list[tuple[tuple[str, str], str]] = []
    for use in uses:
        for rule in use.needs.kubernetes:
            rest = {key: value for key, value in rule.items() if key not in ("namespace", "verbs")}
            key = (str(rule.get("namespace", "")), json.dumps(rest, default=list))
            verbs.setdefault(key, {}).update(dict.fromkeys(rule["verbs"]))
            sources.append((key, use.source))
    found: dict[str, dict[str, list[str]]] = {}
    for key, told in traced(sources).items():
        namespace, scope = key
        line = "- " + json.dumps({**json.loads(scope), "verbs": list(verbs[key])})
        found.setdefault(namespace, {})[line] = told
    return found


def _documents(place: str, rules: dict[str, dict[str, list[str]]]) -> list[str]:
    name = "remediator-" + re.sub(r"[^a-z0-9.-]", "-", place.lower())
    documents = [
        f"# {place}\n"
        + _header("v1", "ServiceAccount", name, HOME)
        + ("" if "" in rules else "# nothing needs a ClusterRole\n")
    ]
    for namespace, lines in sorted(rules.items()):
        role = "Role" if namespace else "ClusterRole"
        documents += [
            _header(_RBAC, role, name, namespace)
            + "rules:\n"
            + "\n".join(commented(lines, "#", "  "))
            + "\n",
            _header(_RBAC, f"{role}Binding", name, namespace)
            + f"roleRef: {_flow(apiGroup='rbac.authorization.k8s.io', kind=role, name=name)}\n"
            + f"subjects: [{_flow(kind='ServiceAccount', name=name, namespace=HOME)}]\n",
        ]
    return documents


_RBAC = "rbac.authorization.k8s.io/v1"


def _header(version: str, kind: str, name: str, namespace: str) -> str:
    where: dict[str, Any] = {"namespace": namespace} if namespace else {}
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {_flow(name=name, **where)}\n"


def _flow(**values: str) -> str:
    return json.dumps(values)
