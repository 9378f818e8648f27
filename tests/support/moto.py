"""A moto server: S3 with storage classes, alone for Glacier restores, which MinIO does not have."""

import sys
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Server, tcp_answers


class MotoServer(Server):
    """moto_server on a free loopback port; it keeps everything in memory and lets everybody in."""

    access_key, secret_key, region = "test", "test-secret", "us-east-1"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        super().__init__(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            name="moto",
            folder=folder,
            ready=lambda: tcp_answers(self.port),
            within=120,
        )

    @property
    def url(self) -> str:
        """The endpoint URL, for boto3."""
        return f"http://127.0.0.1:{self.port}"
