"""How a test uses a Kubernetes action: a connection, a plan, or the reason why there is none."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.actions.kubernetes.connection import KubernetesConnection
from remediator.domain.plans import Effect
from remediator.errors import NothingSelected, Refused
from tests.support.kubernetes_objects import Objects


def connection(mine: Objects, allows: Any, **others: Any) -> KubernetesConnection:
    """A connection of the administrator that allows this in the namespace."""
    way = {"kind": "kubernetes", "kubeconfig_file": mine.cluster.admin_kubeconfig()}
    return KubernetesConnection.model_validate({**way, "namespaces": {mine.namespace: allows}, **others})


async def plan(action: Any, **params: Any) -> Effect:
    """Observe and plan; the one effect."""
    valid = action.Params.model_validate({"connection": "cluster", **params})
    (effect,) = action.plan(valid, await action.observe(valid))
    assert isinstance(effect, Effect)
    return effect


async def no(action: Any, **params: Any) -> str:
    """Plan what must be refused, and close the action; why it was."""
    try:
        with pytest.raises((Refused, NothingSelected)) as refused:
            await plan(action, **params)
    finally:
        await action.close()
    return str(refused.value)
