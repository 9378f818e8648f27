"""What tests/install.sh does where there is no apt-get: the table of images and the script agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dockerd import DockerEngine
from tests.support.images import IMAGES, image_of
from tests.support.processes import program

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "install.sh"
NEEDS = dict(re.findall(r"^    ([a-z_-]+):([a-z0-9.-]+)$", SCRIPT.read_text(), re.MULTILINE))
TOOLS = ("bash", "dirname", "env", "sed", "sort")
CONTAINED = {name for name in NEEDS if image_of(name)}
"""Of what the tests need, what an image brings."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder to be the only one on PATH: what the script itself uses, and what the tests need of the host."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    (folder / "python3").symlink_to(sys.executable)
    for name in NEEDS.keys() - CONTAINED:
        (folder / name).symlink_to(program(name, package=NEEDS[name]))
    return folder


def install(path: Path, docker_host: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script that looks nowhere but in that folder: not where Debian keeps servers, as it does."""
    text, cut = re.subn(r"(?ms)^PATH=.*?^done\n", "", SCRIPT.read_text())
    assert 1 == cut
    script = path.parent / "tests" / "install.sh"
    script.parent.mkdir(exist_ok=True)
    script.write_text(text)
    (path.parent / "tests" / "support").symlink_to(ROOT / "tests" / "support")
    (path.parent / "tests" / "__init__.py").touch()
    return subprocess.run(
        [str(path / "bash"), str(script)],
        env={"PATH": str(path), "DOCKER_HOST": docker_host},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_with_an_engine_the_servers_are_containers(path: Path, docker_engine: DockerEngine) -> None:
    """It succeeds, and names each program that will be run as a container, and the image."""
    (path / "docker").symlink_to(str(shutil.which("docker")))
    done = install(path, docker_engine.base_url)

    assert 0 == done.returncode, done.stderr
    told = dict(re.findall(r"^    (\S+): container of (\S+)$", done.stdout, re.MULTILINE))
    assert {name: image.wanted for name in CONTAINED if (image := image_of(name))} == told


def test_with_an_engine_what_must_be_real_is_asked_for(path: Path, docker_engine: DockerEngine) -> None:
    """What no image brings is asked for, with its package, and nothing else is."""
    (path / "docker").symlink_to(str(shutil.which("docker")))
    (path / "busybox").unlink()
    done = install(path, docker_engine.base_url)

    assert 1 == done.returncode
    assert ["busybox:busybox-static"] == re.findall(r"^    (\S+)$", done.stderr, re.MULTILINE)


def test_without_an_engine_everything_is_asked_for(path: Path, tmp_path: Path) -> None:
    """It fails, lists all that is missing, and says that an engine would do."""
    (path / "docker").symlink_to(str(shutil.which("docker")))
    done = install(path, f"unix://{tmp_path}/none.sock")

    assert 1 == done.returncode
    missing = re.findall(r"^    (\S+):\S+$", done.stderr, re.MULTILINE)
    assert sorted(CONTAINED) == sorted(missing)
    assert "With a Docker engine that answers" in done.stderr


def test_what_is_real_is_what_works_on_the_host() -> None:
    """No image brings what tests use on the host itself; each server that listens and no more has one."""
    assert {
        *(
            "dockerd",
            "iptables",
            "nft",
            "ip",
            "busybox",
            "debootstrap",
            "chromium",
            "setpriv",
            "pg_dump",
            "fuser",
        )
    } == NEEDS.keys() - CONTAINED
    assert 10 == len({image.name for image in IMAGES})
