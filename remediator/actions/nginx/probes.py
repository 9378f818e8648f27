"""The look from outside: what answers, and with what. A proof needs the page to answer and all else to be silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

_READ_BYTES = 256 * 1024
_LOOK_EVERY_SECONDS = 0.2
_STEADY_SECONDS = 0.6
_PORTS = {"http": 80, "https": 443}


class Outside:
    """The probes of one site, made as a stranger would: new connections, no proxy, no redirects followed."""

    def __init__(
        self, page_url: str, page_text: str, silent_urls: Sequence[str], timeout_seconds: float
    ) -> None:
        self._page_url, self._page_text, self._silent_urls = page_url, page_text, tuple(silent_urls)
        self._timeout_seconds = timeout_seconds

    async def not_isolated(self) -> tuple[str, ...]:
        """Every reason why the site is not isolated; empty where the page answers and nothing else does."""
        answers = await asyncio.gather(*(self._answer(url) for url in (self._page_url, *self._silent_urls)))
        told = (
            [] if answers[0] == "page" else [f"the page does not answer at {self._page_url} ({answers[0]})"]
        )
        told += [
            f"{url} still answers ({answer})"
            for url, answer in zip(self._silent_urls, answers[1:], strict=True)
            if answer not in ("", "page")
        ]
        return tuple(told)

    async def proven(self, within_seconds: float) -> tuple[str, ...]:
        """Probe until the site is isolated, and stays so for a moment; what else speaks against it when time is over."""
        return await _steady(self.not_isolated, within_seconds)

    async def no_page(self, within_seconds: float) -> tuple[str, ...]:
        """Probe until the page answers, and nothing else does in its place; what speaks against it in the end."""

        async def against() -> tuple[str, ...]:
            answer = await self._answer(self._page_url)
            return () if answer == "page" else (f"{self._page_url}: {answer or 'nobody answers'}",)

        return await _steady(against, within_seconds)

    async def not_left(self, within_seconds: float) -> tuple[str, ...]:
        """Probe until something else than the page answers at its URL; what speaks against it in the end."""

        async def against() -> tuple[str, ...]:
            answer = await self._answer(self._page_url)
            return (f"{self._page_url}: {answer or 'nobody answers'}",) if answer in ("", "page") else ()

        return await _steady(against, within_seconds)

    async def _answer(self, url: str) -> str:
        """`page`, nothing where nobody answers, or what does."""
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if not await self._connects(parts.hostname or "", port):
            return ""
        return "a TCP connection" if parts.scheme == "tcp" else await self._http(url)

    async def _connects(self, host: str, port: int) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def _http(self, url: str) -> str:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as client,
                client.get(url, allow_redirects=False) as answer,
            ):
                body = await answer.content.read(_READ_BYTES)
        except aiohttp.ServerDisconnectedError:
            return ""
        except TimeoutError:
            # Who takes a connection and is silent may only be slow: that proves nothing.
            return "a connection without an answer in time"
        except (aiohttp.ClientError, OSError) as error:
            return f"a connection that failed: {type(error).__name__}"
        return "page" if self._page_text.encode() in body else f"HTTP {answer.status}"


async def _steady(look: Callable[[], Awaitable[tuple[str, ...]]], within_seconds: float) -> tuple[str, ...]:
    """Look until nothing has been found for a moment, or time is over; what was found last.

    One look is no proof: right after a reload nginx's old processes still take connections for a while.
    """
    clock = asyncio.get_running_loop().time
    deadline, since = clock() + within_seconds, None
    while True:
        began = clock()
        found = await look()
        since = None if found else (since if since is not None else began)
        if since is not None and clock() - since >= _STEADY_SECONDS:
            return ()
        if found and clock() >= deadline:
            return found
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
