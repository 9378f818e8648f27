"""Images made here, as old as a test wants them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime, timedelta

from tests.support.dockerd import DockerEngine


def old_image(engine: DockerEngine, name: str, *, age: timedelta, size_bytes: int = 1000) -> str:
    """Load an image that was made and named so long ago; its id. Without a name it is untagged."""
    made = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    layer = _tar({"data": hashlib.sha256(f"{name} {made}".encode()).digest() * (size_bytes // 32)})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": made,
        "config": {"Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    text = json.dumps(config).encode()
    id_ = hashlib.sha256(text).hexdigest()
    listed = [{"Config": "config.json", "RepoTags": [name] if name else [], "Layers": ["layer.tar"]}]
    whole = _tar({"manifest.json": json.dumps(listed).encode(), "config.json": text, "layer.tar": layer})
    client = engine.client()
    try:
        client.images.load(whole)
    finally:
        client.close()
    # When it got its name here, the engine keeps in a file beside it.
    for file in (engine.folder / "data" / "image").glob(f"*/imagedb/metadata/sha256/{id_}/lastUpdated"):
        file.write_text(made)
    return f"sha256:{id_}"


def forget_images(engine: DockerEngine, *keep: str) -> None:
    """Remove every image but these names, so that the next test starts afresh."""
    client = engine.client()
    try:
        for image in client.images.list(all=True):
            if not set(image.tags) & set(keep):
                client.images.remove(str(image.id), force=True)
    finally:
        client.close()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
