"""A moto server: S3 with storage classes, alone for Glacier restores, which MinIO does not have."""

import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from tests.support.ports import free_port
from tests.support.processes import Server, tcp_answers


class MotoServer(Server):
    """moto_server on a free loopback port; it keeps everything in memory and lets everybody in, except where `enforcing`."""

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

    def user(self, statements: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        """Access keys of a new IAM user with just this policy (`AccessKeyId`, `SecretAccessKey`)."""
        session: Any = boto3.session.Session()
        iam = session.client(
            "iam",
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        name = f"user-{len(iam.list_users()['Users'])}"
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="printed", PolicyDocument=json.dumps(policy))
        keys: Mapping[str, str] = iam.create_access_key(UserName=name)["AccessKey"]
        return keys

    @contextmanager
    def enforcing(self) -> Iterator[None]:
        """Let only whose policy allows the action in. moto compares actions, not resources."""
        self._let_in(0)
        try:
            yield
        finally:
            self._let_in("inf")

    def _let_in(self, calls: int | str) -> None:
        asked = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth",
            data=str(calls).encode(),
            method="POST",
            # Without it urllib calls the number a form, and moto sees an empty body.
            headers={"Content-Type": "text/plain"},
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert 200 == answer.status
