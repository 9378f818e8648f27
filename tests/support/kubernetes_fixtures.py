"""The Kubernetes control plane as a pytest fixture; a plugin, loaded by the modules that use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kubernetes import KubernetesCluster
from tests.support.kubernetes_objects import Objects


@pytest.fixture(scope="session")
def kubernetes_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesCluster]:
    """The worker's control plane. Tests take `kubernetes`."""
    cluster = KubernetesCluster(tmp_path_factory.mktemp("kubernetes"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def kubernetes(kubernetes_once: KubernetesCluster) -> KubernetesCluster:
    """A running control plane with the nodes node-a and node-b; each test makes a namespace of its own."""
    return kubernetes_once


@pytest.fixture
def mine(kubernetes: KubernetesCluster) -> Iterator[Objects]:
    """A namespace of the test's own."""
    objects = Objects(kubernetes)
    yield objects
    objects.clean()
