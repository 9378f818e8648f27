"""Docker: containers and images of one engine, each acted on by the very id that was seen."""

from remediator.actions.docker.connection import DockerConnection
from remediator.actions.docker.isolate import Isolate, IsolateParams
from remediator.actions.docker.prune import PruneImages, PruneImagesParams
from remediator.actions.docker.rejoin import Rejoin, RejoinParams
from remediator.actions.docker.restart import Restart, RestartParams
from remediator.actions.docker.start import Start, StartParams
from remediator.actions.docker.stop import Stop, StopParams

__all__ = [
    "DockerConnection",
    "Isolate",
    "IsolateParams",
    "PruneImages",
    "PruneImagesParams",
    "Rejoin",
    "RejoinParams",
    "Restart",
    "RestartParams",
    "Start",
    "StartParams",
    "Stop",
    "StopParams",
]
