"""The real node, blackbox and push exporters, each of its own for a test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers, program


class NodeExporter(Server):
    """node_exporter, reading text files (`*.prom`) from `textfiles`; `flags` choose its collectors."""

    def __init__(self, folder: Path, *, flags: Sequence[str] = ()) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.textfiles = folder / "textfiles"
        self.textfiles.mkdir(parents=True, exist_ok=True)
        super().__init__(
            [
                program("prometheus-node-exporter", "node_exporter", package="prometheus-node-exporter"),
                f"--web.listen-address={self.address}",
                f"--collector.textfile.directory={self.textfiles}",
                *flags,
            ],
            name="node_exporter",
            folder=folder,
            ready=lambda: http_answers(f"http://{self.address}/"),
        )


class BlackboxExporter(Server):
    """blackbox_exporter with the given `modules`."""

    def __init__(self, folder: Path, modules: Mapping[str, Any]) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "blackbox.yml"
        config.write_text(yaml.safe_dump({"modules": dict(modules)}))
        super().__init__(
            [
                program(
                    "prometheus-blackbox-exporter",
                    "blackbox_exporter",
                    package="prometheus-blackbox-exporter",
                ),
                f"--web.listen-address={self.address}",
                f"--config.file={config}",
            ],
            name="blackbox_exporter",
            folder=folder,
            ready=lambda: http_answers(f"http://{self.address}/-/healthy"),
        )


class Pushgateway(Server):
    """pushgateway, which keeps what is pushed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(
            [
                program("prometheus-pushgateway", "pushgateway", package="prometheus-pushgateway"),
                f"--web.listen-address={self.address}",
            ],
            name="pushgateway",
            folder=folder,
            ready=lambda: http_answers(f"http://{self.address}/-/ready"),
        )
