"""The Kubernetes API in the few calls that the actions need, with its answers in the words of errors.py.

Paths are templates whose names are quoted by the client; objects are the JSON that the server sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from remediator.errors import (
    Drifted,
    OutcomeUnknown,
    PermanentFailure,
    TemporaryFailure,
)

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

Object = Mapping[str, Any]
"""An object as the API server tells it."""

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"

FIELD_MANAGER = "remediator"
"""How the server records that a field was set by us."""

_PAGE = 500

_CONFLICTS = 5
"""How often a change is made anew because the object was written between our look and our change. Ours."""


class Conflict(Drifted):
    """The object changed between our look and our change; nothing was changed."""


class Gone(Drifted):
    """What was to be changed is not there any more."""


class Held(TemporaryFailure):
    """The server asks to wait: a PodDisruptionBudget holds the pod, or it is busy. Nothing was changed."""


class Cluster:
    """A client of one API server, made at the first call."""

    def __init__(self, *, kubeconfig_file: Path | None, context: str | None, timeout_seconds: float) -> None:
        self._kubeconfig_file = kubeconfig_file
        self._context = context
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds / 2)
        self._client: ApiClient | None = None

    async def get(self, path: str, **names: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self._call("GET", path, names)
        except Gone:
            return None

    async def every(
        self, path: str, *, labels: str = "", fields: str = "", **names: str
    ) -> tuple[Object, ...]:
        """All objects that fit the label and field selectors, page by page."""
        found: list[Object] = []
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields, "continue": ""}
        while True:
            page = await self._call("GET", path, names, query={k: v for k, v in query.items() if v})
            found += page.get("items") or ()
            query["continue"] = (page.get("metadata") or {}).get("continue") or ""
            if not query["continue"]:
                return tuple(found)

    async def change(
        self,
        path: str,
        change: Callable[[Object], Object | None],
        *,
        how: str = MERGE,
        part: str = "",
        **names: str,
    ) -> bool:
        """Compare and set: send the change that is made of what is there, only if that still is when it arrives.

        `change` raises Drifted where what is there is not what was planned on, or returns None where nothing is
        left to do; then this returns False. `part` is a subresource, such as `/scale`.

        Raises:
            Gone: where there is no such object.
            Conflict: where somebody else keeps changing it.
        """
        for attempt in range(_CONFLICTS):
            found = await self.get(path, **names)
            if found is None:
                raise Gone(f"there is no {path.format(**names)} any more")
            body = change(found)
            if body is None:
                return False
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            guarded = {**body, "metadata": {**(body.get("metadata") or {}), **version}}
            try:
                await self._call("PATCH", path + part, names, body=guarded, content_type=how)
                return True
            except Conflict:
                # Most often its status was written in between.
                if attempt == _CONFLICTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def create(self, path: str, body: Object, **names: str) -> Object:
        """Create an object. Raises Conflict where one of that name is there."""
        return await self._call("POST", path, names, body=body)

    async def delete(self, path: str, body: Object, **names: str) -> None:
        """Delete one object. Raises Gone, or Conflict where its preconditions do not hold."""
        await self._call("DELETE", path, names, body=body)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]

    async def _call(
        self,
        method: str,
        path: str,
        names: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        writes = method != "GET"
        what = f"{method} {path.format(**names)}"
        manager = {"fieldManager": FIELD_MANAGER} if method in ("PATCH", "POST") else {}
        parameters = list({**manager, **(query or {})}.items())
        try:
            status, text = await self._send(method, path, names, parameters, body, content_type)
            if status == 401:
                # The token was rotated: read it again, once.
                await self.close()
                status, text = await self._send(method, path, names, parameters, body, content_type)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TemporaryFailure(f"the Kubernetes API server cannot be reached: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            told = f"the Kubernetes API server stopped answering at {what}: {type(error).__name__}"
            raise (OutcomeUnknown(told) if writes else TemporaryFailure(told)) from error
        if 200 <= status < 300:
            answer: Object = json.loads(text) if text else {}
            return answer
        raise _refusal(status, _message(text), what, writes)

    async def _send(
        self,
        method: str,
        path: str,
        names: Mapping[str, str],
        query: list[tuple[str, str]],
        body: Any,
        content_type: str,
    ) -> tuple[int, bytes]:
        client = await self._connected()
        method, url, headers, body, _ = await client.param_serialize(
            method,
            path,
            path_params=dict(names),
            query_params=query,
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await client.call_api(method, url, headers, body, _request_timeout=self._timeout)
        return answer.status, await answer.read()  # type: ignore[no-untyped-call]

    async def _connected(self) -> ApiClient:
        if self._client is None:
            # Half the memory of a service that uses no cluster: so it is loaded at the first call.
            from kubernetes.aio import config
            from kubernetes.aio.client import ApiClient, Configuration

            settings = Configuration()
            try:
                if self._kubeconfig_file is None:
                    config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
                else:
                    await config.load_kube_config(  # type: ignore[no-untyped-call]
                        config_file=str(self._kubeconfig_file),
                        context=self._context,
                        client_configuration=settings,
                        persist_config=False,
                    )
            except (config.ConfigException, OSError) as error:
                raise PermanentFailure(f"the Kubernetes credentials cannot be used: {error}") from error
            self._client = ApiClient(settings)
            self._client.user_agent = FIELD_MANAGER
        return self._client


def _message(text: bytes) -> str:
    try:
        told = json.loads(text)
        return str(told["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return text[:200].decode(errors="replace")


def _refusal(status: int, message: str, what: str, writes: bool) -> Exception:
    told = f"{what} was answered {status}: {message}"
    if status == 404:
        return Gone(told)
    if status == 409:
        return Conflict(told)
    if status == 429:
        return Held(told)
    if "more than one PodDisruptionBudget" in message:
        # An eviction that can never work is answered 500.
        return PermanentFailure(told)
    if status >= 500:
        # Some of these are said after etcd took the change.
        return OutcomeUnknown(told) if writes else TemporaryFailure(told)
    return PermanentFailure(told)
