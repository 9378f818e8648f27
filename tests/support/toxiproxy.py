"""A real Toxiproxy: between the service and a server, a line that can be slow, cut or silent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers
from tests.support.rest import call
from tests.support.tools.build import tool


class ToxiproxyServer(Server):
    """Toxiproxy with its API on a free port; `proxy` makes a line."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        super().__init__(
            [str(tool("toxiproxy-server")), "-host=127.0.0.1", f"-port={self.port}"],
            name="toxiproxy",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/version"),
        )

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    async def proxy(self, name: str, upstream: str) -> str:
        """Make a line to `upstream` (`host:port`) and return the `host:port` at which it begins."""
        listen = f"127.0.0.1:{free_port()}"
        await call(
            f"{self.url}/proxies",
            method="POST",
            body={"name": name, "listen": listen, "upstream": upstream, "enabled": True},
        )
        return listen

    async def cut(self, name: str) -> None:
        """Close a line: its connections break and new ones are refused."""
        await call(f"{self.url}/proxies/{name}", method="POST", body={"enabled": False})

    async def mend(self, name: str) -> None:
        """Open a cut line again and take every toxic off it."""
        await call(f"{self.url}/proxies/{name}", method="POST", body={"enabled": True})
        for toxic in await call(f"{self.url}/proxies/{name}/toxics"):
            await call(f"{self.url}/proxies/{name}/toxics/{toxic['name']}", method="DELETE")

    async def poison(
        self,
        name: str,
        kind: str,
        attributes: Mapping[str, Any],
        *,
        stream: str = "downstream",
        share: float = 1.0,
    ) -> None:
        """Put a toxic on a line: latency {latency, jitter} ms, timeout {timeout} ms, limit_data {bytes}, reset_peer...

        `stream` is upstream (towards the server) or downstream; `share` is the part of connections that get it.
        """
        await call(
            f"{self.url}/proxies/{name}/toxics",
            method="POST",
            body={"type": kind, "stream": stream, "toxicity": share, "attributes": dict(attributes)},
        )
