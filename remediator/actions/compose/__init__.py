"""Docker Compose: services of one project, changed one at a time and never with what they depend on."""

from remediator.actions.compose.connection import ComposeConnection
from remediator.actions.compose.recreate import Recreate, RecreateParams
from remediator.actions.compose.scale import Scale, ScaleParams
from remediator.actions.compose.stopset import StopSet, StopSetParams

__all__ = [
    "ComposeConnection",
    "Recreate",
    "RecreateParams",
    "Scale",
    "ScaleParams",
    "StopSet",
    "StopSetParams",
]
