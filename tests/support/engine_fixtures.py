"""What the actions on a Docker engine are about, as pytest fixtures; a plugin, loaded by the modules that use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.compose_cases import ProjectOnDisk
from tests.support.dockerd import DockerEngine
from tests.support.emergency import EmergencySite
from tests.support.nginx import NginxServer


@pytest.fixture
def project(docker_engine: DockerEngine, tmp_path: Path) -> ProjectOnDisk:
    """A project that is not started yet."""
    return ProjectOnDisk(docker_engine, tmp_path)


@pytest.fixture
def site(docker_engine: DockerEngine, nginx_factory: Callable[[str], NginxServer]) -> EmergencySite:
    """A site whose services are not started yet."""
    return EmergencySite(docker_engine, nginx_factory)
