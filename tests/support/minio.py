"""A real S3 server of its own for a test: MinIO."""

from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers
from tests.support.tools.build import tool


class MinioServer(Server):
    """MinIO on one folder, with the root user `access_key` and its `secret_key`."""

    access_key, secret_key, region = "test-root", "test-root-secret", "us-east-1"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        super().__init__(
            [
                str(tool("minio")),
                "server",
                f"--address=127.0.0.1:{self.port}",
                f"--console-address=127.0.0.1:{free_port()}",
                str(folder / "data"),
            ],
            name="minio",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/minio/health/ready"),
            env={
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_REGION": self.region,
                "MINIO_UPDATE": "off",
                "MINIO_BROWSER": "off",
                "HOME": str(folder),
            },
        )

    @property
    def url(self) -> str:
        """The endpoint URL, for boto3."""
        return f"http://127.0.0.1:{self.port}"
