"""The pure parts of the Docker actions: what they may act on, what they plan, and what a second look tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from remediator.actions.docker import (
    DockerConnection,
    Isolate,
    IsolateParams,
    PruneImagesParams,
    Rejoin,
    RejoinParams,
    Restart,
    RestartParams,
    Start,
    StartParams,
    Stop,
    StopParams,
)
from remediator.actions.docker.prune import Image, PruneImages, SeenImages, choose, image_of
from remediator.actions.docker.rejoin import SeenNetworks
from remediator.containers import Container, container_of, same
from remediator.domain.plans import Progress
from remediator.errors import ActionError, Drifted, NothingSelected, Refused

CONNECTION = DockerConnection(kind="docker", containers=("api",), image_repositories=("shop/api",))
ID = "a" * 64
RUNNING = Container(ID, "api", "sha256:" + "b" * 64, "running", "", started_at="1", finished_at="0")
STOPPED = replace(RUNNING, status="exited", finished_at="2")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def params(model: type[BaseModel], **more: Any) -> Any:
    """Valid parameters."""
    return model.model_validate({"connection": "engine", "container": "api", **more})


@pytest.mark.parametrize("model", [RestartParams, StopParams, StartParams, IsolateParams])
@pytest.mark.parametrize("name", ["../x", "a/b", "a;b", "a b", "a\n", "*", "", "-a", "a" * 129, "%2e%2e"])
def test_names_are_names(model: type[BaseModel], name: str) -> None:
    """Nothing that could be a path, a pattern or a second word is taken as a container's name."""
    assert "api" == params(model).container
    with pytest.raises(ValidationError, match="container"):
        params(model, container=name)


def test_unknown_parameters_are_told() -> None:
    """A parameter that is misspelt is no parameter."""
    with pytest.raises(ValidationError, match="force"):
        params(StopParams, force=True)


PLANS: list[tuple[str, Any, Any, Container, str]] = [
    ("restart", Restart, RestartParams, RUNNING, "restart container api (aaaaaaaaaaaa, image sha256:bbbbbbbbbbbb"),
    ("stop", Stop, StopParams, RUNNING, "stop container api (aaaaaaaaaaaa"),
    ("stop-that-does-not-last", Stop, StopParams, replace(RUNNING, restart_policy="always"), "starts again when"),
    ("start", Start, StartParams, STOPPED, "start container api (aaaaaaaaaaaa"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "model", "seen", "told"), [pytest.param(*rest, id=name) for name, *rest in PLANS]
)
def test_plans(action: Any, model: type[BaseModel], seen: Container, told: str) -> None:
    """A plan names exactly the container and the run that was seen."""
    (effect,) = action(CONNECTION).plan(params(model), seen)

    assert told in effect.summary
    assert (ID, seen.started_at) == (effect.before["id"], effect.before["started_at"])
    assert {"containers": 1} == effect.figures


REFUSED: list[tuple[str, Any, Any, Container, type[ActionError], str]] = [
    ("stopped", Stop, StopParams, STOPPED, NothingSelected, "exited already"),
    ("runs", Start, StartParams, RUNNING, NothingSelected, "runs already"),
    ("frozen", Start, StartParams, replace(RUNNING, status="paused"), Refused, "is paused"),
    ("no-network", Isolate, IsolateParams, RUNNING, NothingSelected, "in no network"),
    ("host", Isolate, IsolateParams, replace(RUNNING, network_mode="host"), Refused, "can only be stopped"),
    ("shared", Isolate, IsolateParams, replace(RUNNING, network_mode="container:x"), Refused, "isolate that"),
]


@pytest.mark.parametrize(
    ("action", "model", "seen", "error", "told"), [pytest.param(*rest, id=name) for name, *rest in REFUSED]
)
def test_what_is_not_planned(
    action: Any, model: type[BaseModel], seen: Container, error: type[ActionError], told: str
) -> None:
    """Where there is nothing to do, or it cannot be done, no effect is planned."""
    with pytest.raises(error, match=told):
        action(CONNECTION).plan(params(model), seen)


PROGRESS: list[tuple[str, Any, Any, Container, Container, Progress]] = [
    ("restart-not-yet", Restart, RestartParams, RUNNING, RUNNING, Progress.UNTOUCHED),
    ("restart-done", Restart, RestartParams, RUNNING, replace(RUNNING, started_at="3"), Progress.DONE),
    ("restart-half", Restart, RestartParams, RUNNING, STOPPED, Progress.UNCLEAR),
    ("restart-died", Restart, RestartParams, RUNNING, replace(STOPPED, started_at="3"), Progress.UNCLEAR),
    ("restart-other", Restart, RestartParams, RUNNING, replace(RUNNING, id="c" * 64), Progress.UNCLEAR),
    ("stop-not-yet", Stop, StopParams, RUNNING, RUNNING, Progress.UNTOUCHED),
    ("stop-done", Stop, StopParams, RUNNING, STOPPED, Progress.DONE),
    ("stop-and-started", Stop, StopParams, RUNNING, replace(RUNNING, started_at="3"), Progress.UNCLEAR),
    ("start-not-yet", Start, StartParams, STOPPED, STOPPED, Progress.UNTOUCHED),
    ("start-done", Start, StartParams, STOPPED, replace(RUNNING, started_at="3"), Progress.DONE),
    ("start-unwell", Start, StartParams, STOPPED, replace(RUNNING, started_at="3", health="starting"), Progress.UNCLEAR),
    ("start-and-ended", Start, StartParams, STOPPED, replace(STOPPED, started_at="3"), Progress.UNCLEAR),
]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "model", "before", "now", "expected"),
    [pytest.param(*rest, id=name) for name, *rest in PROGRESS],
)
def test_progress(
    action: Any, model: type[BaseModel], before: Container, now: Container, expected: Progress
) -> None:
    """What a second look tells of a container whose change was lost sight of."""
    bound = action(CONNECTION)
    (effect,) = bound.plan(params(model), before)

    assert expected is bound.progress(effect, now)


def endpoint(**more: Any) -> dict[str, Any]:
    """An endpoint as the engine shows it."""
    return {"NetworkID": "n1", "Aliases": None, "IPAMConfig": None, "Links": None, "DriverOpts": None, **more}


JOINED = replace(
    RUNNING,
    networks={
        "front": endpoint(
            Aliases=["shop", "api", ID[:12]], IPAMConfig={"IPv4Address": "10.0.0.9"}, IPAddress="10.0.0.9"
        ),
        "back": endpoint(NetworkID="n2", IPAddress="172.18.0.2"),
    },
)


def test_isolation_keeps_what_is_needed_to_come_back() -> None:
    """Aliases and fixed addresses are kept; the engine's own alias and the addresses that it chose are not."""
    (effect,) = Isolate(CONNECTION).plan(params(IsolateParams), JOINED)
    kept = {"links": [], "ipv6_address": "", "driver_opts": {}}

    assert {
        "back": {"network_id": "n2", "aliases": [], "ipv4_address": "", **kept},
        "front": {"network_id": "n1", "aliases": ["api", "shop"], "ipv4_address": "10.0.0.9", **kept},
    } == effect.before["networks"]
    assert "from back, front" in effect.summary


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        pytest.param({"none": endpoint()}, Progress.DONE, id="alone"),
        pytest.param(JOINED.networks, Progress.UNTOUCHED, id="as-before"),
        pytest.param({}, Progress.UNCLEAR, id="in-none-but-not-kept-there"),
        pytest.param({"front": JOINED.networks["front"]}, Progress.UNCLEAR, id="half"),
    ],
)
def test_isolation_progress(networks: Mapping[str, Any], expected: Progress) -> None:
    """Only in the network without a way out it is isolated: from no network at all it comes back by itself."""
    action = Isolate(CONNECTION)
    (effect,) = action.plan(params(IsolateParams), JOINED)

    assert expected is action.progress(effect, replace(JOINED, networks=networks))


def test_rejoining_adds_what_is_missing() -> None:
    """What it is in already stays as it is; the rest is joined, and is what the undo leaves again."""
    wanted = params(RejoinParams, networks={"front": {"aliases": ["api"]}, "back": {}})
    seen = SeenNetworks(
        replace(RUNNING, networks={"back": endpoint(), "none": endpoint()}), {"front": "n1", "back": "n2"}
    )
    (effect,) = Rejoin(CONNECTION).plan(wanted, seen)

    assert ["back"] == effect.before["networks"]
    assert ["back", "front"] == effect.after["networks"]
    assert "disconnect it from front again" == effect.undo


@pytest.mark.parametrize(
    "networks",
    [{}, {"../x": {}}, {"a b": {}}, {"front": {"ipv4_address": "10.0.0.300"}}, {"front": {"aliases": ["*"]}}],
)
def test_networks_are_networks(networks: Any) -> None:
    """No set of networks is empty, and no name or address is something else."""
    with pytest.raises(ValidationError):
        params(RejoinParams, networks=networks)


def image(number: int, *names: str, age: timedelta, **more: Any) -> Image:
    """An image of that age."""
    tags = tuple(name for name in names if "@" not in name)
    digests = tuple(name for name in names if "@" in name)
    return Image(f"sha256:{number:064d}", tags, digests, NOW - age, more.get("size_bytes", 100))


def chosen(*images: Image, used: tuple[Image, ...] = (), connection: DockerConnection = CONNECTION) -> Any:
    """Which of them go, by number, and why others stay; the newest one of each repository stays anyway."""
    seen = SeenImages("e", images, frozenset(one.id for one in used), NOW)
    asked = PruneImagesParams(connection="engine", older_than_seconds=7 * 86_400, keep_newest_images=1)
    gone, kept = choose(seen, asked, connection)
    return [int(one.id.partition(":")[2]) for one in gone], dict(kept)


NEWEST = image(0, "shop/api:9", age=DAY)
OLD = image(1, "shop/api:1", age=30 * DAY)
DIGEST = "sha256:" + "d" * 64

STAYS: list[tuple[str, Image, str]] = [
    ("young", image(1, "shop/api:1", age=6 * DAY), "too young"),
    ("of-others", image(1, "other/api:1", age=30 * DAY), "not ours to prune"),
    ("of-ours-and-of-others", image(1, "shop/api:1", "other/api@" + DIGEST, age=30 * DAY), "not ours to prune"),
    ("a-longer-name", image(1, "shop/api2:1", age=30 * DAY), "not ours to prune"),
    ("a-registry's", image(1, "registry:5000/shop/api:1", age=30 * DAY), "not ours to prune"),
    ("without-a-name", image(1, age=30 * DAY), "not ours to prune"),
    ("the-previous-one", image(1, "shop/api:previous", age=30 * DAY), "to roll back to"),
    ("two-tags", image(1, "shop/api:1", "shop/api:1.0", age=30 * DAY), "with several tags"),
]  # fmt: skip


@pytest.mark.parametrize(("other", "why"), [pytest.param(i, w, id=name) for name, i, w in STAYS])
def test_images_that_stay(other: Image, why: str) -> None:
    """Each kind of image that must not go stays, for its reason, beside one that goes."""
    goes = replace(OLD, id=f"sha256:{2:064d}")
    gone, kept = chosen(NEWEST, other, goes)

    assert [2] == gone
    assert why in kept


def test_images_in_use_stay() -> None:
    """An image that a container was made of stays, whether or not the container runs."""
    assert ([], {"in use": 1, "among the newest": 1}) == chosen(NEWEST, OLD, used=(OLD,))


def test_images_that_are_listed_stay() -> None:
    """Images to roll back to can be named by id, or by digest."""
    pulled = image(1, "shop/api@" + DIGEST, age=30 * DAY)
    by_id = CONNECTION.model_copy(update={"keep_digests": (OLD.id,)})
    by_digest = CONNECTION.model_copy(update={"keep_digests": (DIGEST,)})

    assert ([1], {"among the newest": 1}) == chosen(NEWEST, pulled)
    assert ([], {"among the newest": 1, "to roll back to": 1}) == chosen(NEWEST, OLD, connection=by_id)
    assert ([], {"among the newest": 1, "to roll back to": 1}) == chosen(NEWEST, pulled, connection=by_digest)


def test_the_newest_stay_though_they_are_old() -> None:
    """What runs and what to roll back to are the newest of a repository, however old they are."""
    old = [image(number, f"shop/api:{number}", age=(40 - number) * DAY) for number in (1, 2, 3)]

    assert ([1, 2], {"among the newest": 1}) == chosen(*old)


def test_at_most_so_many_images_go() -> None:
    """The oldest go first, and the plan says that some are left for another time."""
    old = tuple(image(number, f"shop/api:{number}", age=(40 - number) * DAY) for number in range(1, 6))
    asked = PruneImagesParams(connection="engine", keep_newest_images=1, max_images=2)
    (effect,) = PruneImages(CONNECTION).plan(asked, SeenImages("e", old, frozenset(), NOW))

    assert [one.id for one in old[:2]] == effect.before["images"]
    assert {"images": 2, "bytes": 200} == effect.at_most
    assert "2 for another time" in effect.summary
    assert effect.irreversible


def test_an_image_is_as_old_as_its_name() -> None:
    """An image that was built long ago and got its name here today is young."""
    found = {
        "Id": OLD.id,
        "RepoTags": ["shop/api:1", "<none>:<none>"],
        "RepoDigests": ["<none>@<none>"],
        "Created": "2020-01-01T00:00:00Z",
        "Metadata": {"LastTagTime": "2026-02-28T12:00:00.123456789+01:00"},
        "Size": 5,
    }
    never = {**found, "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"}}

    assert datetime(2026, 2, 28, 11, 0, 0, 123456, tzinfo=UTC) == image_of(found).made_at
    assert datetime(2020, 1, 1, tzinfo=UTC) == image_of(never).made_at
    assert (("shop/api:1",), ()) == (image_of(found).tags, image_of(found).digests)


def test_the_same_container_is_the_id_under_its_name() -> None:
    """An id that is gone, or that has another name than was allowed, is not what was planned on."""
    assert RUNNING == same(RUNNING, {"id": ID}, "api")
    with pytest.raises(Drifted, match="is gone"):
        same(None, {"id": ID}, "api")
    with pytest.raises(Drifted, match="is api, and db was planned on"):
        same(RUNNING, {"id": ID}, "db")


def test_what_an_engine_shows() -> None:
    """A container's state, network, labels and data are read; a read-only folder of the host is no data."""
    found = container_of(
        {
            "Id": ID,
            "Name": "/api",
            "Image": "i",
            "State": {"Status": "running", "StartedAt": "1", "Health": {"Status": "healthy"}},
            "HostConfig": {"NetworkMode": "host", "RestartPolicy": {"Name": "always"}},
            "Config": {"Labels": None},
            "Mounts": [
                {"Type": "bind", "Destination": "/config", "RW": False},
                {"Type": "bind", "Destination": "/data", "RW": True},
                {"Type": "tmpfs", "Destination": "/tmp"},
                {"Type": "volume", "Destination": "/db"},
            ],
        }
    )

    assert ("api", "healthy", "host", ("/data", "/db")) == (
        found.name,
        found.health,
        found.network_mode,
        found.volumes,
    )
    assert found.active
    assert found.comes_back
