"""nginx: emergency mode, in which a static page is all that answers, and the way out of it."""

from remediator.actions.nginx.connection import NginxConnection
from remediator.actions.nginx.isolate import Isolate, IsolateParams
from remediator.actions.nginx.leave import LeaveEmergency, LeaveEmergencyParams

__all__ = ["Isolate", "IsolateParams", "LeaveEmergency", "LeaveEmergencyParams", "NginxConnection"]
