"""Alertmanager: silence exactly the alerts that our work causes, for a bounded time, under our name, and lift it.

A silence carries the id of the remediation that made it: guard `silence` lets that one go on, and holds all others.
"""

from remediator.actions.alertmanager.connection import AlertmanagerConnection
from remediator.actions.alertmanager.lift import Lift, LiftParams, SeenHeld
from remediator.actions.alertmanager.silence import Seen, Silence, SilenceParams
from remediator.domain.silences import CREATED_BY

__all__ = [
    "CREATED_BY",
    "AlertmanagerConnection",
    "Lift",
    "LiftParams",
    "Seen",
    "SeenHeld",
    "Silence",
    "SilenceParams",
]
