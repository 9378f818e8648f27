"""One use of each Docker action, with what a test needs to prepare it, to look at it and to spoil it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from remediator.actions.docker import (
    DockerConnection,
    Isolate,
    PruneImages,
    Rejoin,
    Restart,
    Start,
    Stop,
)
from remediator.domain.plans import Progress
from tests.support.docker_images import forget_images, old_image
from tests.support.dockerd import BUSYBOX, DockerEngine
from tests.support.engine_contract import Case, Look, changed, look

DAY = timedelta(days=1)
NAME, BESIDE = "shop-api", "shop-db"
FIXED = "10.77.0.9"


def connection(base_url: str) -> DockerConnection:
    """The connection as a rule file would name it."""
    return DockerConnection(
        kind="docker",
        base_url=base_url,
        containers=(NAME,),
        networks=("front", "back"),
        image_repositories=("shop/api",),
        timeout_seconds=20,
    )


def case(engine: DockerEngine, action: Any, **more: Any) -> Case:
    """A use of an action on the container, unless `params` say something else."""
    given = {"params": {"container": NAME}, "look": lambda: look(engine), "connect": connection, **more}
    return Case(engine, action, **given)


def run(engine: DockerEngine, name: str, *command: str, **options: Any) -> Any:
    """A container that lasts until it is told to stop, and stops at once then."""
    client = engine.client()
    try:
        argv = list(command) or ["sleep", "1000"]
        container = client.containers.run(
            BUSYBOX, argv, name=name, detach=True, stop_signal="SIGKILL", **options
        )
        container.reload()
        return container
    finally:
        client.close()


def _pair(engine: DockerEngine) -> Any:
    run(engine, BESIDE)
    return run(engine, NAME)


def only(name: str, before: Look, after: Look) -> bool:
    """Whether this and nothing else differs."""
    return {name} == changed(before, after)


HOSTILE_NAMES = tuple(
    {"container": name}
    for name in (BESIDE, "../x", "a;b", "a\nb", "*", "", "shop-ap", "/shop-api", "x" * 200)
)


def restart(engine: DockerEngine) -> Case:
    """A container that runs, beside another one."""
    container = _pair(engine)

    def spoil() -> None:
        container.remove(force=True)
        run(engine, NAME)

    return case(
        engine,
        Restart,
        trigger="POST .*/restart$",
        done=lambda before, after: (
            only(NAME, before, after)
            and before[NAME]["id"] == after[NAME]["id"]
            and after[NAME]["status"] == "running"
        ),
        spoil=spoil,
        after_crash=(Progress.UNCLEAR,),
        params={"container": NAME, "stop_timeout_seconds": 1},
        hostile=(*HOSTILE_NAMES, {"stop_timeout_seconds": -1}, {"stop_timeout_seconds": 10_000}),
        undoes=False,
    )


def stop(engine: DockerEngine) -> Case:
    """A container that runs, beside another one."""
    container = _pair(engine)
    return case(
        engine,
        Stop,
        trigger="POST .*/stop$",
        done=lambda before, after: (
            only(NAME, before, after)
            and after[NAME]["status"] == "exited"
            and before[NAME]["id"] == after[NAME]["id"]
        ),
        spoil=lambda: container.restart(timeout=0),
        after_crash=(Progress.DONE,),
        params={"container": NAME, "stop_timeout_seconds": 1},
        hostile=(*HOSTILE_NAMES, {"stop_timeout_seconds": 301}),
    )


def start(engine: DockerEngine) -> Case:
    """A container that was stopped, beside one that runs."""
    container = _pair(engine)
    container.stop(timeout=0)

    def spoil() -> None:
        container.start()
        container.stop(timeout=0)

    return case(
        engine,
        Start,
        trigger="POST .*/start$",
        done=lambda before, after: (
            only(NAME, before, after)
            and after[NAME]["status"] == "running"
            and before[NAME]["id"] == after[NAME]["id"]
        ),
        spoil=spoil,
        after_crash=(Progress.UNCLEAR,),
        params={"container": NAME, "ready_seconds": 20, "stop_timeout_seconds": 1},
        hostile=(*HOSTILE_NAMES, {"ready_seconds": 0}),
    )


def _networks(engine: DockerEngine) -> None:
    from docker.types import IPAMConfig, IPAMPool

    client = engine.client()
    try:
        client.networks.create("front", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="10.77.0.0/24")]))
        client.networks.create("back")
        client.networks.create("other")
    finally:
        client.close()


def _connect(engine: DockerEngine, network: str, container: str, **how: Any) -> None:
    client = engine.client()
    try:
        client.api.connect_container_to_network(container, network, **how)
    finally:
        client.close()


def isolate(engine: DockerEngine) -> Case:
    """A container in two networks, with names of its own and a fixed address."""
    _networks(engine)
    run(engine, BESIDE, network="front")
    run(engine, NAME, network="back")
    _connect(engine, "front", NAME, aliases=["api", "shop"], ipv4_address=FIXED)
    return case(
        engine,
        Isolate,
        trigger="POST /networks/.*/disconnect$",
        done=lambda before, after: (
            only(NAME, before, after)
            and ["none"] == list(after[NAME]["networks"])
            and {**before[NAME], "networks": ""} == {**after[NAME], "networks": ""}
        ),
        spoil=lambda: _connect(engine, "other", NAME),
        after_crash=(Progress.UNCLEAR,),
        hostile=HOSTILE_NAMES,
    )


def rejoin(engine: DockerEngine) -> Case:
    """A container that is cut off, and the two networks that it belongs to."""
    isolating = isolate(engine)
    client = engine.client()
    try:
        for network in ("front", "back"):
            client.networks.get(network).disconnect(NAME)
        client.networks.get("none").connect(NAME)
    finally:
        client.close()
    wanted = {"front": {"aliases": ["api", "shop"], "ipv4_address": FIXED}, "back": {"aliases": []}}

    def spoil() -> None:
        again = engine.client()
        try:
            again.networks.get("none").disconnect(NAME)
        finally:
            again.close()
        isolating.spoil()

    return case(
        engine,
        Rejoin,
        trigger="POST /networks/.*/connect$",
        done=lambda before, after: (
            only(NAME, before, after)
            and {
                "front": {"aliases": ["api", "shop"], "fixed": FIXED},
                "back": {"aliases": [], "fixed": ""},
            }
            == after[NAME]["networks"]
        ),
        spoil=spoil,
        after_crash=(Progress.UNCLEAR,),
        params={"container": NAME, "networks": wanted},
        hostile=(
            *HOSTILE_NAMES,
            {"networks": {}},
            {"networks": {"other": {}}},
            {"networks": {"host": {}}},
            {"networks": {"../front": {}}},
            {"networks": {"front": {"ipv4_address": "10.77.0.9; x"}}},
            {"networks": {"front": {"aliases": ["*"]}}},
        ),
    )


def prune(engine: DockerEngine) -> Case:
    """Six images of ours, of which two are old, unused and not to roll back to; and those of others."""
    forget_images(engine, BUSYBOX)
    ours = {
        number: old_image(engine, f"shop/api:{number}", age=number * 10 * DAY) for number in (1, 2, 3, 4, 5)
    }
    old_image(engine, "shop/api:previous", age=60 * DAY)
    old_image(engine, "other/tool:1", age=90 * DAY)
    old_image(engine, "", age=90 * DAY)
    client = engine.client()
    try:
        client.containers.create(ours[3], ["/data"], name=NAME)
    finally:
        client.close()

    def spoil() -> None:
        again = engine.client()
        try:
            again.containers.create(ours[5], ["/data"], name=BESIDE)
        finally:
            again.close()

    return case(
        engine,
        PruneImages,
        trigger="DELETE /images/",
        done=lambda before, after: (
            only("images", before, after)
            and {ours[4], ours[5]} == set(before["images"]) - set(after["images"])
        ),
        spoil=spoil,
        after_crash=(Progress.UNCLEAR,),
        params={"older_than_seconds": 86_400},
        hostile=(
            {"older_than_seconds": 0},
            {"keep_newest_images": 0},
            {"max_images": 0},
            {"max_images": 100_000},
            {"repository": "other/tool"},
        ),
        undoes=False,
        irreversible=True,
    )


MAKERS: Mapping[str, Callable[[DockerEngine], Case]] = {
    "docker.isolate": isolate,
    "docker.prune_images": prune,
    "docker.rejoin": rejoin,
    "docker.restart": restart,
    "docker.start": start,
    "docker.stop": stop,
}
