"""The compose file of ours that pins images: read and written whole, and never half."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from remediator.errors import PermanentFailure, Refused

_HEAD = (
    "# Written by remediator: the images that it pinned. Read after all other compose files of the project.\n"
)


def read(path: Path) -> dict[str, str]:
    """The image of each service that is pinned.

    Raises:
        Refused: when something else is in it, or it is a symlink.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refused(f"{path} cannot be read as a file of ours: {error.strerror}") from error
    with os.fdopen(handle, encoding="utf-8") as file:
        found = yaml.safe_load(file) or {}
    try:
        services: Mapping[str, Mapping[str, str]] = found["services"]
        pinned = {str(name): str(service["image"]) for name, service in services.items()}
        ours = set(found) == {"services"} and all(set(service) == {"image"} for service in services.values())
    except (TypeError, KeyError, AttributeError):
        ours, pinned = False, {}
    if not ours:
        raise Refused(f"{path} holds more than images that we pinned; it is not ours to write")
    return pinned


def pin(path: Path, service: str, image: str | None) -> None:
    """Pin the image of one service, or take its pin away.

    Raises:
        PermanentFailure: when it cannot be written; the file is as it was.
    """
    with _alone(path.parent):
        pinned = read(path)
        if image is None:
            pinned.pop(service, None)
        else:
            pinned[service] = image
        services = {name: {"image": pinned[name]} for name in sorted(pinned)}
        try:
            _write(path, _HEAD + yaml.safe_dump({"services": services}, sort_keys=False))
        except OSError as error:
            raise PermanentFailure(f"{path} cannot be written: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentFailure(f"{folder} cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
