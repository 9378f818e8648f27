"""Which container image brings which program of the tests, for systems without Debian's packages.

    python3 -m tests.support.images redis-server busybox    those of them that an image brings, with the image

Needs nothing but the standard library, since tests/install.sh asks before anything is installed.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

OVERRIDE = "REMEDIATOR_TEST_IMAGE_"
"""An environment variable `REMEDIATOR_TEST_IMAGE_REDIS` names another image than the one that stands here."""


@dataclass(frozen=True)
class Image:
    """An image and the programs in it, by their names here and their paths there."""

    name: str
    reference: str
    programs: dict[str, str]

    @property
    def wanted(self) -> str:
        """The image to run: the environment's, or the one that stands here."""
        return os.environ.get(OVERRIDE + self.name, self.reference)


IMAGES = (
    # The versions of Debian 12's packages, or the nearest that is published.
    Image("REDIS", "redis:7.2", {"redis-server": "redis-server"}),
    Image(
        "PROMETHEUS",
        "prom/prometheus:v2.42.0",
        {"prometheus": "/bin/prometheus", "promtool": "/bin/promtool"},
    ),
    Image(
        "ALERTMANAGER",
        "prom/alertmanager:v0.25.0",
        {
            "prometheus-alertmanager": "/bin/alertmanager",
            "alertmanager": "/bin/alertmanager",
            "amtool": "/bin/amtool",
        },
    ),
    Image(
        "REDIS_EXPORTER",
        "oliver006/redis_exporter:v1.45.0",
        {"prometheus-redis-exporter": "/redis_exporter", "redis_exporter": "/redis_exporter"},
    ),
    Image(
        "NODE_EXPORTER",
        "prom/node-exporter:v1.5.0",
        {"prometheus-node-exporter": "/bin/node_exporter", "node_exporter": "/bin/node_exporter"},
    ),
    Image(
        "BLACKBOX_EXPORTER",
        "prom/blackbox-exporter:v0.23.0",
        {
            "prometheus-blackbox-exporter": "/bin/blackbox_exporter",
            "blackbox_exporter": "/bin/blackbox_exporter",
        },
    ),
    Image(
        "PUSHGATEWAY",
        "prom/pushgateway:v1.5.1",
        {"prometheus-pushgateway": "/bin/pushgateway", "pushgateway": "/bin/pushgateway"},
    ),
    Image("POSTGRES", "postgres:15", {"postgres": "postgres", "initdb": "initdb"}),
    Image("ETCD", "quay.io/coreos/etcd:v3.5.17", {"etcd": "/usr/local/bin/etcd"}),
    Image("NGINX", "nginx:1.22", {"nginx": "nginx"}),
)
"""What is not here works on the host itself (dockerd, nft, ip, busybox, chromium ...) and has to be there."""


def image_of(program: str) -> Image | None:
    """Return the image that brings the program, if one does."""
    return next((image for image in IMAGES if program in image.programs), None)


def main(names: Sequence[str]) -> int:
    """Print a line for each of the programs that an image brings: its name and the image."""
    for name in names:
        image = image_of(name)
        if image:
            print(name, image.wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
