"""systemd: restart, stop and start allow-listed units over D-Bus, and wait until they are well."""

from remediator.actions.systemd.connection import SystemdConnection, UnitName
from remediator.actions.systemd.restart import RestartUnit, RestartUnitParams
from remediator.actions.systemd.start import StartUnit, StartUnitParams
from remediator.actions.systemd.stop import StopUnit, StopUnitParams
from remediator.actions.systemd.units import Unit

__all__ = [
    "RestartUnit",
    "RestartUnitParams",
    "StartUnit",
    "StartUnitParams",
    "StopUnit",
    "StopUnitParams",
    "SystemdConnection",
    "Unit",
    "UnitName",
]
