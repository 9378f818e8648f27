"""A real blackbox_exporter: it probes what the rules call a health endpoint."""

from pathlib import Path

import yaml

from tests.support.ports import free_port
from tests.support.processes import Server, http_answers, program

MODULES = {
    "modules": {"http_2xx": {"prober": "http", "timeout": "2s", "http": {"preferred_ip_protocol": "ip4"}}}
}


class BlackboxExporter(Server):
    """Probes whatever `/probe?target=...&module=http_2xx` names."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "blackbox.yml"
        config.write_text(yaml.safe_dump(MODULES))
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(
            [
                program(
                    "prometheus-blackbox-exporter",
                    "blackbox_exporter",
                    package="prometheus-blackbox-exporter",
                ),
                f"--config.file={config}",
                f"--web.listen-address={self.address}",
            ],
            name="blackbox_exporter",
            folder=folder,
            ready=lambda: http_answers(f"http://{self.address}/-/healthy"),
        )

    def job(self, target: str, **labels: str) -> dict[str, object]:
        """The scrape job that probes one URL."""
        return {
            "job_name": "blackbox",
            "metrics_path": "/probe",
            "params": {"module": ["http_2xx"], "target": [target]},
            "static_configs": [{"targets": [self.address], "labels": labels}],
        }
