"""A real S3 server of its own for a test: MinIO."""

from pathlib import Path
from typing import Any

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
            ready=self._serves,
            within=120,
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

    def _serves(self) -> bool:
        """Whether it serves the settings of its buckets too: it calls itself ready before it has read them."""
        if not http_answers(f"{self.url}/minio/health/ready"):
            return False
        # Here, since every run of pytest imports this module and few need the client.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import ClientError

        session: Any = boto3.session.Session()
        client = session.client(
            "s3",
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            for bucket in client.list_buckets()["Buckets"][:1]:
                client.get_bucket_lifecycle_configuration(Bucket=bucket["Name"])
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration")
        finally:
            client.close()
        return True
