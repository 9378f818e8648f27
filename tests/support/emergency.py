"""A site with services behind a real nginx, that can be put into emergency mode; and one use of each action on it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remediator.actions.nginx import Isolate, LeaveEmergency, NginxConnection
from remediator.domain.plans import Progress
from tests.support.docker_cases import run
from tests.support.dockerd import DockerEngine
from tests.support.engine_contract import Case, Look, changed, look
from tests.support.nginx import NginxServer
from tests.support.ports import free_port
from tests.support.processes import http_answers, program, tcp_answers
from tests.support.waiting import until

PAGE = "This service is closed for an emergency."
SERVICES = ("api", "dicom", "training")
EMERGENCY = "server {{ listen 127.0.0.1:{port}; location / {{ return 503 '" + PAGE + "'; }} }}"
NORMAL = "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://API; }} }}"


class EmergencySite:
    """An api behind nginx and on a port of its own, a dicom receiver, and a training without a port."""

    def __init__(self, engine: DockerEngine, nginx: Callable[[str], NginxServer]) -> None:
        self.engine = engine
        self.ports = {"api": free_port(), "dicom": free_port()}
        self.nginx = nginx(NORMAL.replace("API", self.address("api")))
        configurations = self.nginx.folder / "configurations"
        configurations.mkdir()
        self.normal, self.emergency = configurations / "normal.conf", configurations / "emergency.conf"
        (self.nginx.sites / "default.conf").rename(self.normal)
        self.emergency.write_text(EMERGENCY.format(port=self.nginx.port))
        self.link = self.nginx.sites / "active.conf"
        self.link.symlink_to(self.normal)
        self.reload()

    def address(self, service: str) -> str:
        """Where a service is reached without nginx."""
        return f"{self.engine.host}:{self.ports[service]}"

    def start(self) -> None:
        """Start the services, and wait until they answer."""
        serve = ("httpd", "-f", "-p", "8080", "-h", "/etc")
        for name, port in self.ports.items():
            run(self.engine, name, *serve, ports={"8080/tcp": port})
        run(self.engine, "training")
        run(self.engine, "postgres")
        for port in self.ports.values():
            until(lambda port=port: tcp_answers(port, self.engine.host), what="a service")  # type: ignore[misc]
        until(lambda: http_answers(f"{self.nginx.url}/hostname"), what="the site")

    def stop(self) -> None:
        """Put it into emergency mode by hand."""
        client = self.engine.client()
        try:
            for name in SERVICES:
                client.containers.get(name).stop(timeout=0)
        finally:
            client.close()
        self.point(self.emergency)

    def point(self, configuration: Path) -> None:
        """Have nginx take over that configuration."""
        self.link.unlink()
        self.link.symlink_to(configuration)
        self.reload()

    def reload(self) -> None:
        """Reload nginx, and wait until its old processes have ended: until then they take connections too."""
        old = self._workers()
        self.nginx.reload()
        until(lambda: self._workers() and not self._workers() & old, within=30, what="the reload of nginx")

    def _workers(self) -> set[str]:
        return set(Path(f"/proc/{self.nginx.pid}/task/{self.nginx.pid}/children").read_text().split())

    def reset(self) -> None:
        """As it was before anything was started."""
        self.engine.clean()
        self.point(self.normal)

    def answer(self, path: str = "/hostname") -> str:
        """What nginx answers."""
        try:
            with urllib.request.urlopen(f"{self.nginx.url}{path}", timeout=10) as found:
                return str(found.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def connect(self, base_url: str, **more: Any) -> NginxConnection:
        """The connection as a rule file would name it."""
        given = {
            "kind": "nginx",
            "binary": program("nginx", package="nginx-light"),
            "config_file": self.nginx.config_file,
            "prefix": self.nginx.folder,
            "pid_file": self.nginx.folder / "nginx.pid",
            "active_link": self.link,
            "normal_file": self.normal,
            "emergency_file": self.emergency,
            "page_url": f"{self.nginx.url}/hostname",
            "page_text": PAGE,
            "silent_urls": [
                f"{self.nginx.url}/api/health",
                f"http://{self.address('api')}/hostname",
                f"tcp://{self.address('dicom')}",
            ],
            "base_url": base_url,
            "containers": list(SERVICES),
            "timeout_seconds": 10,
            **more,
        }
        return NginxConnection.model_validate(given)

    def look(self) -> Look:
        """The containers, where the link points, and what a stranger is answered."""
        page = PAGE in self.answer()
        return {**look(self.engine), "link": Path(self.link).readlink().name, "page": page}


def case(site: EmergencySite, action: Any, **more: Any) -> Case:
    """A use of an action on the site."""
    return Case(site.engine, action, **{"look": site.look, "connect": site.connect, **more})


def isolate(site: EmergencySite) -> Case:
    """From serving to the static page."""
    site.start()

    def done(before: Look, after: Look) -> bool:
        return (
            {*SERVICES, "link", "page"} == changed(before, after)
            and {"exited"} == {after[name]["status"] for name in SERVICES}
            and after["page"]
        )

    return case(
        site,
        Isolate,
        params={"stop_timeout_seconds": 1, "proof_seconds": 20},
        trigger="POST /containers/.*/stop$",
        done=done,
        spoil=lambda: site.emergency.write_text(site.emergency.read_text() + "\n# changed\n"),
        after_crash=(Progress.DONE,),
        hostile=(
            {"stop_timeout_seconds": -1},
            {"proof_seconds": 0},
            {"containers": ["postgres"]},
            {"emergency_file": "/etc/passwd"},
            {"page_url": "http://127.0.0.1/;"},
        ),
        undoes=False,
        undo_is_told=False,
    )


def leave(site: EmergencySite) -> Case:
    """From the static page to serving."""
    site.start()
    site.stop()

    def done(before: Look, after: Look) -> bool:
        return (
            {*SERVICES, "link", "page"} == changed(before, after)
            and {"running"} == {after[name]["status"] for name in SERVICES}
            and not after["page"]
        )

    def spoil() -> None:
        client = site.engine.client()
        try:
            client.containers.get("training").start()
            client.containers.get("training").stop(timeout=0)
        finally:
            client.close()

    return case(
        site,
        LeaveEmergency,
        params={
            "containers": list(SERVICES),
            "ready_seconds": 20,
            "stop_timeout_seconds": 1,
            "proof_seconds": 20,
        },
        trigger="POST /containers/.*/start$",
        done=done,
        spoil=spoil,
        after_crash=(Progress.UNCLEAR,),
        hostile=(
            {"containers": []},
            {"containers": ["postgres"]},
            {"containers": ["*"]},
            {"containers": ["../api"]},
            {"containers": ["api;x"]},
            {"containers": ["api\n"]},
            {"ready_seconds": 0},
            {"normal_file": "/etc/passwd"},
        ),
    )


MAKERS: Mapping[str, Callable[[EmergencySite], Case]] = {
    "nginx.isolate": isolate,
    "nginx.leave_emergency": leave,
}
