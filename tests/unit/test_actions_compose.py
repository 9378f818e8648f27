"""The pure parts of the Compose actions: bounds, what is stateless, what is planned, and the file of pins."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from remediator.actions.compose import (
    ComposeConnection,
    Recreate,
    RecreateParams,
    Scale,
    ScaleParams,
    StopSet,
    StopSetParams,
    pins,
)
from remediator.actions.compose.connection import ScaleLimits
from remediator.actions.compose.memory import working_set_bytes
from remediator.actions.compose.recreate import Image, SeenVersions, image_from
from remediator.actions.compose.scale import SeenService
from remediator.actions.compose.stateless import not_stateless
from remediator.actions.compose.stopset import SeenSet
from remediator.containers import Container
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, PermanentFailure, Refused

DIGEST = "sha256:" + "d" * 64
CONNECTION = ComposeConnection.model_validate(
    {
        "kind": "compose",
        "project": "shop",
        "files": ["/srv/shop/compose.yml"],
        "pins_file": "/srv/shop/pins.yml",
        "scale": {"api": {"min_replicas": 2, "max_replicas": 4}},
        "recreate": {"api": "shop/api"},
        "stop_labels": ["phi=yes"],
    }
)
LABELS = {"com.docker.compose.service": "api", "com.docker.compose.config-hash": "h"}


def containers(number: int, **more: Any) -> tuple[Container, ...]:
    """So many containers of the api."""
    one = Container("", "", "i1", "running", "", "1", labels=LABELS)
    return tuple(replace(one, id=f"{n}" * 64, name=f"shop-api-{n}", **more) for n in range(1, number + 1))


def seen(number: int, **more: Any) -> SeenService:
    """The api with so many containers, as the files say."""
    given: dict[str, Any] = {
        "containers": containers(number),
        "config": {"image": "shop/api:1"},
        "config_hash": "h",
        "file_image": "i1",
        "limits": CONNECTION.scale["api"],
    }
    return SeenService(**{**given, **more})


def params(model: type[BaseModel], **more: Any) -> Any:
    """Valid parameters."""
    return model.model_validate({"connection": "shop", **more})


@pytest.mark.parametrize(
    ("wish", "now", "expected"),
    [
        pytest.param({"step": 1}, 2, 3, id="a-step-up"),
        pytest.param({"step": -1}, 4, 3, id="a-step-down"),
        pytest.param({"step": 9}, 2, 4, id="ends-at-the-maximum"),
        pytest.param({"step": -9}, 4, 2, id="ends-at-the-minimum"),
        pytest.param({"replicas": 4}, 2, 4, id="a-number"),
        pytest.param({"step": -1}, 7, 4, id="comes-down-to-the-maximum"),
    ],
)
def test_scale_plans_within_the_bounds(wish: dict[str, int], now: int, expected: int) -> None:
    """The wanted number lies within the connection's bounds, and the undo is the number from before."""
    (effect,) = Scale(CONNECTION).plan(params(ScaleParams, service="api", **wish), seen(now))

    assert {"replicas": expected} == effect.after
    assert (now, "i1") == (effect.before["replicas"], effect.before["image"])
    assert f"scale it back to {now}" == effect.undo


def limits(**more: Any) -> ScaleLimits:
    """Bounds with something more."""
    return ScaleLimits.model_validate({"max_replicas": 4, **more})


NOT_SCALED: list[tuple[str, dict[str, int], SeenService, type[ActionError], str]] = [
    ("at-the-maximum", {"step": 1}, seen(4), Refused, "4 is the most"),
    ("at-the-minimum", {"step": -1}, seen(2), Refused, "2 is the least"),
    ("above", {"replicas": 5}, seen(2), Refused, r"outside 2\.\.4"),
    ("below", {"replicas": 1}, seen(2), Refused, r"outside 2\.\.4"),
    ("no-change", {"replicas": 2}, seen(2), NothingSelected, "already"),
    ("none-there", {"step": 1}, seen(0), NothingSelected, "no way to start"),
    ("one-is-down", {"step": 1}, seen(2, containers=containers(2, status="exited")), Refused, "mend that"),
    ("a-tag-that-moved", {"step": 1}, seen(2, file_image="i2"), Refused, "another image"),
    ("an-image-that-is-gone", {"step": 1}, seen(2, file_image=""), Refused, "another image"),
    ("another-file", {"step": 1}, seen(2, config_hash="x"), Refused, "something else"),
    ("data", {"step": 1}, seen(2, containers=containers(2, volumes=("/db",))), Refused, "keeps data in /db"),
    ("no-memory", {"step": 2}, seen(2, limits=limits(memory_bytes=6), free_bytes=11), Refused, "12 B"),
]


@pytest.mark.parametrize(
    ("wish", "found", "error", "told"), [pytest.param(*rest, id=name) for name, *rest in NOT_SCALED]
)
def test_what_is_not_scaled(
    wish: dict[str, int], found: SeenService, error: type[ActionError], told: str
) -> None:
    """Out of bounds, no change, or containers that would not be alike."""
    with pytest.raises(error, match=told):
        Scale(CONNECTION).plan(params(ScaleParams, service="api", **wish), found)


def test_fewer_need_no_memory() -> None:
    """A host without memory may be relieved."""
    found = seen(4, limits=limits(memory_bytes=6), free_bytes=0)
    (effect,) = Scale(CONNECTION).plan(params(ScaleParams, service="api", step=-1), found)

    assert {"replicas": 3} == effect.after


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (seen(3), Progress.DONE),
        (seen(2), Progress.UNTOUCHED),
        (seen(4), Progress.UNCLEAR),
        (seen(0), Progress.UNCLEAR),
        (seen(3, containers=containers(3, status="created")), Progress.UNCLEAR),
        (seen(3, containers=containers(3, image="i2")), Progress.UNCLEAR),
    ],
    ids=["done", "as-before", "more", "gone", "not-running", "another-image"],
)
def test_scale_progress(found: SeenService, expected: Progress) -> None:
    """Done where the wanted number of the same image runs."""
    action = Scale(CONNECTION)
    (effect,) = action.plan(params(ScaleParams, service="api", step=1), seen(2))

    assert expected is action.progress(effect, found)


STATE: list[tuple[str, dict[str, Any], str]] = [
    ("name", {"container_name": "x"}, "it has the fixed name x"),
    ("port", {"ports": [{"target": 80, "published": "8080"}]}, "it holds the host's port 8080"),
    ("volume", {"volumes": [{"type": "volume", "target": "/d"}]}, "it keeps data in /d"),
    ("folder", {"volumes": [{"type": "bind", "target": "/d"}]}, "it keeps data in /d"),
    ("host", {"network_mode": "host"}, "it uses a network that is not its own (host)"),
    ("sidecar", {"network_mode": "service:db"}, "it uses a network that is not its own (service:db)"),
    ("address", {"networks": {"a": {"ipv4_address": "10.0.0.1"}}}, "it has a fixed address in a"),
    ("hostname", {"hostname": "x"}, "it has a fixed host name or address"),
    ("global", {"deploy": {"mode": "global"}}, "its mode is global"),
    ("gpu", {"deploy": {"resources": {"reservations": {"devices": [{}]}}}}, "it holds a device"),
    ("device", {"devices": ["/dev/x"]}, "it holds a device"),
]


@pytest.mark.parametrize(("config", "told"), [pytest.param(c, t, id=name) for name, c, t in STATE])
def test_state(config: dict[str, Any], told: str) -> None:
    """Each thing that only one container can have is told."""
    assert (told,) == not_stateless(config, ())


def test_no_state() -> None:
    """Ports that the engine chooses, read-only folders, memory disks and plain networks are no state."""
    config = {
        "ports": [{"target": 80}],
        "volumes": [
            {"type": "bind", "target": "/config", "read_only": True},
            {"type": "tmpfs", "target": "/tmp"},
        ],
        "networks": {"default": None},
        "deploy": {"replicas": 2, "resources": {}},
    }

    assert () == not_stateless(config, containers(2))


def test_memory_that_can_be_given_back_is_not_used() -> None:
    """The page cache that is not in use counts as free; without a figure there is no permission."""
    new = {"memory_stats": {"usage": 100, "stats": {"inactive_file": 30}}}
    old = {"memory_stats": {"usage": 100, "stats": {"total_inactive_file": 40}}}

    assert (70, 60) == (working_set_bytes(new), working_set_bytes(old))
    with pytest.raises(Refused, match="no figure for the memory of /api"):
        working_set_bytes({"name": "/api", "memory_stats": {}})


def versions(number: int = 2, **more: Any) -> SeenVersions:
    """The api in so many containers of i1; i2 is wanted."""
    given: dict[str, Any] = {
        "containers": containers(number),
        "running": Image("i1", "shop/api@sha256:1", True),
        "wanted": Image("i2", "shop/api@sha256:2", True),
        "pinned": "",
    }
    return SeenVersions(**{**given, **more})


def test_recreate_plans_a_version_and_the_way_back() -> None:
    """The effect names both images by digest; with the same image there is nothing to take back."""
    asked = params(RecreateParams, service="api", digest=DIGEST)
    (effect,) = Recreate(CONNECTION).plan(asked, versions())
    (same,) = Recreate(CONNECTION).plan(asked, versions(wanted=Image("i1", "shop/api@sha256:1", True)))

    assert {"image": "i2", "reference": "shop/api@sha256:2"} == effect.after
    assert "recreate it with the image before, shop/api@sha256:1" == effect.undo
    assert "" == same.undo
    assert "same image i1" in same.summary


NOT_RECREATED: list[tuple[str, SeenVersions, type[ActionError], str]] = [
    ("none-there", versions(0), NothingSelected, "no container of api"),
    ("not-pulled", versions(wanted=None), Refused, "has to be pulled first"),
    ("of-another-repository", versions(wanted=Image("i2", "i2", False)), Refused, "is not one of shop/api"),
    ("no-way-back", versions(running=None), Refused, "could not come back"),
    ("mixed", versions(containers=(*containers(1), *containers(2, image="i3")[1:])), Refused, "2 different"),
]


@pytest.mark.parametrize(
    ("found", "error", "told"), [pytest.param(*rest, id=name) for name, *rest in NOT_RECREATED]
)
def test_what_is_not_recreated(found: SeenVersions, error: type[ActionError], told: str) -> None:
    """Without the image, with a foreign one, or without a way back nothing is planned."""
    with pytest.raises(error, match=told):
        Recreate(CONNECTION).plan(params(RecreateParams, service="api", digest=DIGEST), found)


NEW = tuple(replace(one, id=one.id[::-1].replace("1", "8").replace("2", "9")) for one in containers(2))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (versions(), Progress.UNTOUCHED),
        (versions(containers=NEW, running=Image("i2", "i2", True)), Progress.DONE),
        (versions(containers=NEW), Progress.UNCLEAR),
        (versions(containers=(NEW[0], containers(2)[1])), Progress.UNCLEAR),
        (versions(0, running=None), Progress.UNCLEAR),
        (
            versions(
                containers=tuple(replace(one, health="starting") for one in NEW),
                running=Image("i2", "i2", True),
            ),
            Progress.UNCLEAR,
        ),
    ],
    ids=["as-before", "done", "new-of-the-old-image", "half", "gone", "not-healthy-yet"],
)
def test_recreate_progress(found: SeenVersions, expected: Progress) -> None:
    """Done where other containers run the wanted image and are well."""
    action = Recreate(CONNECTION)
    (effect,) = action.plan(params(RecreateParams, service="api", digest=DIGEST), versions())

    assert expected is action.progress(effect, found)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"RepoDigests": ["shop/api@sha256:1", "other@sha256:2"]}, ("shop/api@sha256:1", True)),
        ({"RepoTags": ["shop/api:1"]}, ("i", True)),
        ({"RepoTags": ["shop/api2:1"], "RepoDigests": ["x/shop/api@sha256:1"]}, ("i", False)),
        ({"RepoTags": None}, ("i", False)),
    ],
    ids=["by-digest", "by-id", "of-others", "without-a-name"],
)
def test_images_of_a_repository(found: dict[str, Any], expected: tuple[str, bool]) -> None:
    """An image is pinned by its digest in our repository, else by its id."""
    image = image_from({"Id": "i", **found}, "shop/api")

    assert expected == (image.reference, image.ours)


def test_a_set_is_all_of_it() -> None:
    """What runs is stopped, what must be among them is, and more than was foreseen is not stopped."""
    found = SeenSet((*containers(2), *containers(3, status="exited")[2:]))
    asked = params(StopSetParams, label="phi=yes", must_include=["api"])
    (effect,) = StopSet(CONNECTION).plan(asked, found)

    assert {"1" * 64: "1", "2" * 64: "1"} == effect.before["containers"]
    assert {"containers": 2} == effect.at_most
    with pytest.raises(Refused, match="no container of receiver carries"):
        StopSet(CONNECTION).plan(
            params(StopSetParams, label="phi=yes", must_include=["api", "receiver"]), found
        )
    with pytest.raises(Refused, match="above 1"):
        StopSet(CONNECTION).plan(params(StopSetParams, label="phi=yes", max_containers=1), found)
    with pytest.raises(NothingSelected, match="no container carries"):
        StopSet(CONNECTION).plan(params(StopSetParams, label="phi=yes"), SeenSet(()))


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a;b", "a b", "a\n", "*", "", "-a", "--all", "a=b", "a" * 64, "${X}"]
)
@pytest.mark.parametrize("model", [ScaleParams, RecreateParams])
def test_names_are_names(model: type[BaseModel], name: str) -> None:
    """Nothing that could be an option, a pattern or a second word is taken as a service's name."""
    with pytest.raises(ValidationError, match="service"):
        params(model, service=name, **({"step": 1} if model is ScaleParams else {}))


@pytest.mark.parametrize("path", ["compose.yml", "/srv/../etc/passwd"])
def test_files_are_whole_paths(path: str) -> None:
    """A path that depends on where we stand, or climbs, is no configuration."""
    with pytest.raises(ValidationError, match="is not a whole path"):
        ComposeConnection.model_validate({"kind": "compose", "project": "shop", "files": [path]})


def test_pins_are_kept_one_by_one(tmp_path: Path) -> None:
    """Pinning one service leaves the others' pins, and taking the last away leaves a file that compose can read."""
    path = tmp_path / "pins.yml"
    pins.pin(path, "api", "shop/api@" + DIGEST)
    pins.pin(path, "web", "shop/web@" + DIGEST)
    pins.pin(path, "api", DIGEST)

    assert {"api": DIGEST, "web": "shop/web@" + DIGEST} == pins.read(path)
    pins.pin(path, "api", None)
    pins.pin(path, "web", None)
    assert {"services": {}} == yaml.safe_load(path.read_text())
    assert ["pins.yml"] == os.listdir(tmp_path)


def test_pins_that_cannot_be_written_are_as_before(tmp_path: Path) -> None:
    """A folder that is not there is a failure that changed nothing."""
    with pytest.raises(PermanentFailure, match="cannot be written to"):
        pins.pin(tmp_path / "nowhere" / "pins.yml", "api", DIGEST)


@pytest.mark.parametrize(
    "text", ["[]", "services: []", "services: {api: {image: x, ports: []}}", "{services: {}, volumes: {}}"]
)
def test_a_file_of_others_is_refused(text: str, tmp_path: Path) -> None:
    """What holds more than images is not written over."""
    (tmp_path / "pins.yml").write_text(text)
    with pytest.raises(Refused, match="not ours to write"):
        pins.pin(tmp_path / "pins.yml", "api", DIGEST)

    assert text == (tmp_path / "pins.yml").read_text()
