"""The real redis_exporter, which turns Redis's INFO into the metrics that the shipped rules read."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers, program


class RedisExporter(Server):
    """redis_exporter of the server at a `redis://` URL; `flags` are further ones of its command line."""

    def __init__(self, folder: Path, redis_url: str, *, flags: Sequence[str] = ()) -> None:
        self.port = free_port()
        super().__init__(
            [
                program("prometheus-redis-exporter", "redis_exporter", package="prometheus-redis-exporter"),
                f"-redis.addr={redis_url}",
                f"-web.listen-address={self.address}",
                *flags,
            ],
            name="redis_exporter",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/health"),
        )

    @property
    def address(self) -> str:
        """`host:port`, as a scrape target."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it serves `/metrics`."""
        return f"http://{self.address}"
