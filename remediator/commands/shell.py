"""What the commands share: the console, their options, settings, and a call to the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from remediator.errors import Finding

out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="remediator.yml (default: ./remediator.yml where there is one)"),
]
UrlOption = Annotated[str, typer.Option("--url", envvar="REMEDIATOR_URL", help="where the service listens")]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file", envvar="REMEDIATOR_TOKEN_FILE", help="a file with your token (see `people`)"
    ),
]

PrometheusOption = Annotated[
    Path | None,
    typer.Option("--prometheus-rules", help="folder of Prometheus's rule files (default: prometheus/rules)"),
]


def read_settings(config: Path | None, more: Mapping[str, str] | None = None) -> Any:
    """The settings of the environment and of `config`, or of ./remediator.yml; `more` where neither says anything.

    Raises:
        ConfigError: with everything that is wrong.
    """
    return _load(config, {**(more or {}), **os.environ})


def offline_settings(config: Path | None) -> Any:
    """The settings for a command that listens to nothing, and therefore needs no credentials of senders.

    Raises:
        ConfigError: with everything else that is wrong.
    """
    listens_to_nothing = {
        "REMEDIATOR_SERVER__HOST": "127.0.0.1",
        "REMEDIATOR_SERVER__ALLOW_UNAUTHENTICATED": "true",
    }
    return _load(config, {**os.environ, **listens_to_nothing})


def _load(config: Path | None, environment: Mapping[str, str]) -> Any:
    from remediator.settings import load_settings

    path = config or (Path("remediator.yml") if Path("remediator.yml").exists() else None)
    return load_settings(path, environment)


def stop_with(findings: tuple[Finding, ...]) -> typer.Exit:
    """Print what is wrong, and end with 1: raise what this returns."""
    for finding in findings:
        err.print(str(finding), markup=False)
    errors = sum(finding.severity == "error" for finding in findings)
    err.print(f"{errors} error(s), nothing was started", style="red")
    return typer.Exit(1)


def call(
    method: str, url: str, token_file: Path | None, path: str, body: dict[str, Any] | None = None
) -> Any:
    """What the service answers. A refusal is printed and ends with 1, no answer with 2."""
    import aiohttp

    token = token_file.read_text().strip() if token_file else os.environ.get("REMEDIATOR_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def call() -> tuple[int, Any]:
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url.rstrip("/") + path, json=body, headers=headers) as response,
        ):
            return response.status, await response.json(content_type=None)

    try:
        status, answer = finish(call())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        err.print(f"{url} does not answer: {error}", style="red", markup=False)
        raise typer.Exit(2) from error
    if status >= 400:
        told = answer if isinstance(answer, dict) else {}
        err.print(f"{told.get('error', status)}", style="red", markup=False)
        if told.get("mend"):
            err.print(told["mend"], markup=False)
        raise typer.Exit(1)
    return answer


def finish(work: Any) -> Any:
    """Run a coroutine to its end."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
