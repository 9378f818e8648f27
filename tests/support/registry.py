"""A registry that a Docker engine of the tests can pull from: images made here, by tag and by digest.

It runs in the engine's network namespace, at a loopback address, which an engine trusts without TLS.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.dockerd import BUSYBOX, DockerEngine
from tests.support.ports import free_port
from tests.support.processes import Server, program

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
BLOB = "application/octet-stream"


class Registry(Server):
    """Serves a folder of manifests and blobs; `push` adds an image to it."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self.port, self._engine = free_port(), engine
        inner = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()[0]
        root = str(Path(__file__).resolve().parents[2])
        super().__init__(
            [
                program("nsenter", package="util-linux"),
                f"--target={inner}",
                "--net",
                "--",
                sys.executable,
                "-m",
                "tests.support.registry",
                str(folder),
                str(self.port),
            ],
            name="registry",
            folder=folder,
            ready=(folder / "ready").exists,
            env={"PYTHONPATH": root},
        )

    def push(self, repository: str, tag: str) -> str:
        """Make an image like busybox with that tag for a label; its digest."""
        client = self._engine.client()
        try:
            made = client.containers.create(BUSYBOX, ["true"])
            layer = b"".join(made.export())  # type: ignore[arg-type]  # the stubs call the chunks str
            made.remove()
        finally:
            client.close()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"version": tag}, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(json.dumps(config).encode(), CONFIG),
            "layers": [self._blob(gzip.compress(layer, 1, mtime=0), LAYER)],
        }
        text = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        for reference in (tag, digest):
            path = self.folder / "v2" / repository / "manifests" / reference
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        return digest

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = self.folder / "blobs" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"mediaType": media_type, "size": len(content), "digest": digest}


def serve(folder: Path, port: int) -> None:
    """Answer GET and HEAD as the registry API says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            file = folder / "blobs" / path.rsplit("/", 1)[1] if "/blobs/" in path else folder / path[1:]
            content = b"{}" if path == "/v2/" else file.read_bytes() if file.is_file() else None
            self.send_response(404 if content is None else 200)
            content = content or b""
            self.send_header("Content-Type", MANIFEST if "/manifests/" in path else BLOB)
            self.send_header("Content-Length", str(len(content)))
            if "/manifests/" in path:
                self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(content).hexdigest()}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    (folder / "ready").touch()
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
