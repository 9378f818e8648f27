"""The shipped units of rules/units, loaded by a real systemd and started as their playbooks start them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.actions.systemd import StartUnit, StartUnitParams, SystemdConnection
from remediator.errors import PermanentFailure
from tests.support.dockerd import DockerEngine
from tests.support.systemd import SystemdHost

UNITS = Path(__file__).resolve().parents[2] / "rules" / "units"
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(UNITS.glob("*.service"))}


@pytest.fixture(scope="module")
def host(docker_engine_once: DockerEngine) -> Iterator[SystemdHost]:
    """A host with all of the units, and with none of their programs."""
    made = SystemdHost(docker_engine_once, FILES)
    made.boot()
    yield made
    made.close()
    docker_engine_once.start()
    docker_engine_once.clean()


def test_systemd_understands_every_line(host: SystemdHost) -> None:
    """Each is loaded and down; the only thing that systemd finds wrong is that its programs are not there."""
    code, told = host.execute("systemd-analyze", "--recursive-errors=no", "verify", *FILES)
    wrong = [line for line in told.splitlines() if "is not executable" not in line]
    states = host.run("show", "--property=LoadState,ActiveState", *FILES, check=True).split("\n\n")

    assert FILES
    assert [] == wrong
    assert code in (0, 1)
    assert ["ActiveState=inactive\nLoadState=loaded"] * len(FILES) == [
        "\n".join(sorted(state.splitlines())) for state in states
    ]


@pytest.mark.parametrize("unit", FILES)
async def test_a_missing_program_is_a_failure(unit: str, host: SystemdHost) -> None:
    """It is not skipped as if all were well: the step fails, and says that nothing was changed."""
    action = StartUnit(SystemdConnection(kind="systemd", bus_address=host.bus_address, units=(unit,)))
    params = StartUnitParams(connection="host", unit=unit, steady_seconds=0)
    (effect,) = action.plan(params, await action.observe(params))
    with pytest.raises(PermanentFailure, match="its job was assert"):
        await action.apply(effect)

    assert "inactive" == host.show(unit)["ActiveState"]
