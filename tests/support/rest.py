"""Small JSON calls to a server under test, without blocking the event loop of the service that is tested."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any


class RefusedError(RuntimeError):
    """The server answered with something other than 2xx. The message has the status and the body."""


def call_now(
    url: str,
    *,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10,
) -> Any:
    """Call the URL, with `body` as JSON if there is one, and return the JSON of the answer (None if empty)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise RefusedError(f"{method} {url}: {error.code} {error.read().decode(errors='replace')}") from error
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text.decode(errors="replace")


async def call(
    url: str,
    *,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10,
) -> Any:
    """Do as `call_now` in a thread."""
    return await asyncio.to_thread(call_now, url, method=method, body=body, headers=headers, timeout=timeout)
