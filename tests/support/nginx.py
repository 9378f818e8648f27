"""A real nginx of its own for a test."""

import os
import signal
import subprocess
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Server, program, tcp_answers

FRAME = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr info;
worker_processes 1;
{user}
events {{ worker_connections 128; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/tmp-body;
    proxy_temp_path {folder}/tmp-proxy;
    fastcgi_temp_path {folder}/tmp-fastcgi;
    uwsgi_temp_path {folder}/tmp-uwsgi;
    scgi_temp_path {folder}/tmp-scgi;
    include {folder}/sites/*.conf;
}}
"""


class NginxServer(Server):
    """nginx whose `server` blocks are the files `sites/*.conf` of its folder, taken over at `reload`.

    `site` is the text of the first one, with `{port}` where the port goes; double its other braces.
    """

    def __init__(self, folder: Path, site: str) -> None:
        self.port = free_port()
        self.sites = folder / "sites"
        self.config_file = folder / "nginx.conf"
        self.sites.mkdir(parents=True, exist_ok=True)
        self.write_site("default", site)
        # The test folders are readable by us alone, so the workers stay the user who runs the tests.
        user = "user root;" if os.geteuid() == 0 else ""
        self.config_file.write_text(FRAME.format(folder=folder, user=user))
        self._nginx = program("nginx", package="nginx-light")
        super().__init__(
            [self._nginx, "-c", str(self.config_file), "-p", str(folder), "-e", "stderr"],
            name="nginx",
            folder=folder,
            ready=lambda: tcp_answers(self.port),
        )

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def write_site(self, name: str, text: str) -> Path:
        """Write `sites/<name>.conf` from the text, `{port}` filled in."""
        path = self.sites / f"{name}.conf"
        path.write_text(text.format(port=self.port))
        return path

    def check(self) -> tuple[bool, str]:
        """Return whether nginx accepts the files as they are now, and what it says about them."""
        done = subprocess.run(
            [self._nginx, "-t", "-c", str(self.config_file), "-p", str(self.folder), "-e", "stderr"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode == 0, done.stderr

    def reload(self) -> None:
        """Take over the files as they are now (SIGHUP); nginx keeps the old ones if they are wrong."""
        self.send(signal.SIGHUP)
