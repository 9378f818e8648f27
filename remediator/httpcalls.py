"""Calls to HTTP servers of others, in the words of errors.py. It stands beside `offload`: actions do not know each other.

One connection a call, no proxy, no redirect followed, answers bounded, credentials read from their files at each call.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
from pydantic import AfterValidator
from yarl import URL

from remediator.errors import NothingSelected, OutcomeUnknown, PermanentFailure, TemporaryFailure
from remediator.redaction import Redactor

MOST_BYTES = 4 * 1024 * 1024
"""The longest answer that is read. A choice of ours."""

_TOLD_CHARACTERS = 300


def _base(text: str) -> str:
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("expected http://HOST or https://HOST")
    if url.user or url.password or url.query_string or url.fragment:
        raise ValueError("the URL holds a user, a query or a fragment; credentials come from files")
    return text.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base)]
"""Of configuration: a server, perhaps with a prefix of its paths, without credentials."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `whole` is False where more came than is read."""

    status: int
    body: bytes
    whole: bool = True

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", errors="replace")

    def json(self, what: str) -> Any:
        """The body as JSON. Raises PermanentFailure where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise PermanentFailure(f"{what} answered with something else than JSON") from error


def secret(file: Path) -> str:
    """The one line of a file. Raises PermanentFailure where it cannot be read or cannot be a header."""
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentFailure(f"cannot read {file}: {type(error).__name__}") from error
    if not text or not text.isprintable():
        raise PermanentFailure(f"{file} does not hold one line of text")
    return text


class Caller:
    """Calls below one base URL. Files are read at each call: of headers, of a bearer token, of the password of `login`."""

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        timeout_seconds: float,
        token_file: Path | None = None,
        header_files: Mapping[str, Path] | None = None,
        login: tuple[str, Path] | None = None,
    ) -> None:
        self.base_url, self.name, self._login = base_url, name, login
        self._timeout_seconds, self._token_file = timeout_seconds, token_file
        self._header_files = dict(header_files or {})

    async def answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_seconds: float | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> Answer:
        """What is answered, whatever its status.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: when nothing is.
            PermanentFailure: when a credential cannot be read.
        """
        headers = {name: secret(file) for name, file in self._header_files.items()}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {secret(self._token_file)}"
        if self._login is not None:
            user, file = self._login
            headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{secret(file)}'.encode()).decode()}"
        timeout = aiohttp.ClientTimeout(
            total=min(timeout_seconds or self._timeout_seconds, self._timeout_seconds)
        )
        # A connection of its own: one that was kept may have been hung up on, and a change would look lost.
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as client,
            client.request(
                method,
                URL(self.base_url + path).with_query(dict(query or {})),
                json=body,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            held = bytearray()
            async for chunk in answer.content.iter_chunked(65_536):
                held += chunk
                if len(held) > most_bytes:
                    return Answer(answer.status, bytes(held[:most_bytes]), whole=False)
            return Answer(answer.status, bytes(held))

    async def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Any:
        """The JSON of a good answer, None where it is empty.

        Raises:
            NothingSelected: 404.
            PermanentFailure: any other refusal.
            TemporaryFailure: when it was not reached, asks to wait, or fails at a GET.
            OutcomeUnknown: when a change was sent and no answer came.
        """
        what, writes = f"{self.name}: {method} {path}", method != "GET"
        try:
            answer = await self.answer(method, path, query=query, body=body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TemporaryFailure(f"{self.name} cannot be reached: {type(error).__name__}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            told = f"{self.name} stopped answering at {method} {path}: {type(error).__name__}"
            raise (OutcomeUnknown(told) if writes else TemporaryFailure(told)) from error
        if 200 <= answer.status < 300:
            if not answer.whole:
                raise PermanentFailure(f"{what} answered more than {MOST_BYTES:,} bytes")
            return answer.json(what) if answer.body else None
        raise _refusal(answer, what, writes)


def _refusal(answer: Answer, what: str, writes: bool) -> Exception:
    told = f"{what} was answered {answer.status}: {Redactor()(answer.text[:_TOLD_CHARACTERS])}"
    if answer.status == 404:
        return NothingSelected(told)
    if answer.status == 429:
        return TemporaryFailure(told)
    if answer.status >= 500:
        return OutcomeUnknown(told) if writes else TemporaryFailure(told)
    return PermanentFailure(told)
