"""The pure parts of emergency mode: what its connection has to say, what is planned, and what a second look tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.nginx import (
    Isolate,
    IsolateParams,
    LeaveEmergency,
    LeaveEmergencyParams,
    NginxConnection,
)
from remediator.actions.nginx.isolate import SeenService
from remediator.actions.nginx.leave import SeenEmergency
from remediator.actions.nginx.site import SeenSite
from remediator.containers import Container
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, Refused

VALID: dict[str, Any] = {
    "kind": "nginx",
    "active_link": "/etc/nginx/active.conf",
    "normal_file": "/etc/nginx/normal.conf",
    "emergency_file": "/etc/nginx/emergency.conf",
    "page_url": "https://shop.example/",
    "page_text": "closed for an emergency",
    "silent_urls": ["https://shop.example/health", "tcp://shop.example:11112"],
    "containers": ["api", "dicom"],
}
CONNECTION = NginxConnection.model_validate(VALID)
SITE = SeenSite("normal", 7, {"normal": "n", "emergency": "e"})
EMERGENCY = replace(SITE, mode="emergency")
API = Container("a" * 64, "api", "i", "running", "", "1")
DICOM = Container("d" * 64, "dicom", "i", "running", "", "2")
STOPPED = tuple(replace(one, status="exited") for one in (API, DICOM))
SERVES = SeenService(SITE, (API, DICOM), (), ("the page does not answer",))
ISOLATED = SeenService(EMERGENCY, STOPPED, (), ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"containers": []},
        {"containers": ["../api"]},
        {"silent_urls": []},
        {"silent_urls": ["file:///etc/passwd"]},
        {"silent_urls": ["https://user:secret@shop.example/"]},
        {"page_url": "tcp://shop.example:1"},
        {"page_text": "x"},
        {"active_link": "active.conf"},
        {"normal_file": "/etc/nginx/../passwd"},
        {"emergency_file": "/etc/nginx/normal.conf"},
        {"shell": "nginx -s reload"},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_a_connection_that_cannot_prove_anything_is_refused(wrong: dict[str, Any]) -> None:
    """No containers, nothing that must be silent, or a page that cannot be told from another are errors."""
    with pytest.raises(ValidationError):
        NginxConnection.model_validate({**VALID, **wrong})


def isolation(seen: SeenService) -> Any:
    """The effect of isolating."""
    (effect,) = Isolate(CONNECTION).plan(IsolateParams(connection="site"), seen)
    return effect


def test_isolation_is_planned() -> None:
    """What runs is stopped; what is listed and not there, or would come back, is told."""
    told = isolation(replace(SERVES, containers=(replace(API, restart_policy="always"),), missing=("dicom",)))

    assert {"mode": "normal", "sha256": "e", "containers": {API.id: "1"}} == told.before
    assert {"services": 1, "missing": 1} == told.figures
    assert "not there: dicom" in told.summary
    assert "api would start again with the engine" in told.summary
    assert "" == told.undo


def test_isolation_that_is_not_whole_is_planned_again() -> None:
    """In emergency mode with a service that runs, or something that answers, there is something left to do."""
    assert {"services": 1} == {
        "services": isolation(replace(ISOLATED, containers=(API,))).figures["services"]
    }
    assert 0 == isolation(replace(ISOLATED, not_isolated=("x still answers",))).figures["services"]


@pytest.mark.parametrize(
    ("seen", "error", "told"),
    [
        (ISOLATED, NothingSelected, "isolated already"),
        (replace(SERVES, site=replace(SITE, mode="other")), Refused, "neither of the two"),
    ],
    ids=["done", "not-ours"],
)
def test_isolation_that_is_not_planned(seen: SeenService, error: type[ActionError], told: str) -> None:
    """A site that is isolated, and one whose link is not ours."""
    with pytest.raises(error, match=told):
        isolation(seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SERVES, Progress.UNTOUCHED),
        (ISOLATED, Progress.DONE),
        (replace(ISOLATED, not_isolated=("x still answers",)), Progress.UNCLEAR),
        (replace(SERVES, site=EMERGENCY), Progress.UNCLEAR),
        (replace(SERVES, containers=STOPPED), Progress.UNCLEAR),
    ],
    ids=["as-before", "proven", "not-proven", "services-run", "page-missing"],
)
def test_isolation_progress(seen: SeenService, expected: Progress) -> None:
    """Done only where it is proven from outside."""
    assert expected is Isolate(CONNECTION).progress(isolation(SERVES), seen)


def leaving(seen: SeenEmergency) -> Any:
    """The effect of leaving."""
    asked = LeaveEmergencyParams(connection="site", containers=("api", "dicom"))
    (effect,) = LeaveEmergency(CONNECTION).plan(asked, seen)
    return effect


def test_leaving_is_planned() -> None:
    """What does not run is started; the undo is the page."""
    effect = leaving(SeenEmergency(EMERGENCY, (API, STOPPED[1])))

    assert {"services": 1} == effect.figures
    assert "start 1 services (dicom)" in effect.summary
    assert effect.undo.startswith("back to the static page")


def test_a_site_that_serves_has_nothing_to_leave() -> None:
    """Out of emergency mode nothing is started."""
    with pytest.raises(NothingSelected, match="not in emergency mode"):
        leaving(SeenEmergency(SITE, STOPPED))


def test_an_empty_list_never_means_all() -> None:
    """What is started has to be named."""
    with pytest.raises(ValidationError, match="containers"):
        LeaveEmergencyParams(connection="site", containers=())


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SeenEmergency(EMERGENCY, STOPPED), Progress.UNTOUCHED),
        (SeenEmergency(SITE, (replace(API, started_at="3"), DICOM)), Progress.DONE),
        (SeenEmergency(EMERGENCY, (replace(API, started_at="3"), STOPPED[1])), Progress.UNCLEAR),
        (SeenEmergency(SITE, STOPPED), Progress.UNCLEAR),
    ],
    ids=["as-before", "done", "half", "nothing-runs"],
)
def test_leaving_progress(seen: SeenEmergency, expected: Progress) -> None:
    """Done where the site serves and its services are well."""
    effect = leaving(SeenEmergency(EMERGENCY, STOPPED))

    assert expected is LeaveEmergency(CONNECTION).progress(effect, seen)
