"""The world as Prometheus and Alertmanager tell it, over their HTTP APIs."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import datetime
from typing import Any

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from remediator.domain.alerts import Alert, Labels
from remediator.domain.matchers import Matcher, Operator
from remediator.domain.silences import is_own
from remediator.errors import WorldUnavailable

_TRIES = 3
_SHOWN_SERIES = 5


def quoted(value: str) -> str:
    """A label value as PromQL and Alertmanager's matchers write it."""
    return json.dumps(value, ensure_ascii=False)


class HttpWorld:
    """Asks Prometheus whether an alert fires and whether a symptom is gone, Alertmanager whether it is muted."""

    def __init__(
        self,
        prometheus_url: str,
        alertmanager_url: str,
        *,
        timeout_seconds: float = 5,
        prometheus_token: str | None = None,
        alertmanager_token: str | None = None,
    ) -> None:
        self._prometheus, self._alertmanager = prometheus_url.rstrip("/"), alertmanager_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._headers = {
            self._prometheus: _bearer(prometheus_token),
            self._alertmanager: _bearer(alertmanager_token),
        }
        self._session: aiohttp.ClientSession | None = None

    async def firing(self, labels: Labels) -> bool:
        """Whether Prometheus has the alert as firing.

        Alertmanager's label set holds Prometheus's external labels too, which ALERTS does not: the series must
        agree on the labels it has.
        """
        expr = f'ALERTS{{alertname={quoted(labels.get("alertname", ""))},alertstate="firing"}}'
        for series in await self._query(expr):
            own = {k: v for k, v in series["metric"].items() if k not in ("__name__", "alertstate")}
            if all(labels.get(name) == value for name, value in own.items()):
                return True
        return False

    async def sample(self, expr: str) -> tuple[bool | None, str]:
        """Whether the expression returns a sample that is a number, and the samples as text."""
        found = [series for series in await self._query(expr) if not math.isnan(float(series["value"][1]))]
        shown = ", ".join(
            f"{_selector(series['metric'])} {series['value'][1]}" for series in found[:_SHOWN_SERIES]
        )
        return bool(found), shown or "no sample"

    async def muted(self, labels: Labels, remediation: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The silences and the inhibiting alerts that Alertmanager names for this very label set.

        Where it holds no such alert, as for a scheduled run, its active silences are compared with the labels. What
        `remediation` silenced itself while it acts is left out; a silence that is not told of any more is not.
        """
        found, silences = await asyncio.gather(
            self._alerts([(name, value) for name, value in labels.items()]),
            self._get(self._alertmanager, "/api/v2/silences", []),
        )
        ours = [alert for alert in found if alert["labels"] == dict(labels)]
        if not ours:
            return _of_others(silenced_by(silences, labels), silences, remediation), ()
        silenced: list[str] = []
        inhibited: list[str] = []
        for alert in ours:
            silenced += alert["status"].get("silencedBy") or []
            inhibited += alert["status"].get("inhibitedBy") or []
            inhibited += alert["status"].get("mutedBy") or []
        if silenced and remediation:
            return _of_others(tuple(silenced), silences, remediation), tuple(inhibited)
        return tuple(silenced), tuple(inhibited)

    async def alerts(self, group_labels: Labels) -> tuple[Alert, ...]:
        """The active alerts that carry the group's labels."""
        found = await self._alerts(
            list(group_labels.items()), active="true", silenced="false", inhibited="false"
        )
        return tuple(
            Alert(
                labels=alert["labels"],
                starts_at=datetime.fromisoformat(alert["startsAt"]),
                annotations=alert.get("annotations", {}),
                generator_url=alert.get("generatorURL", ""),
            )
            for alert in found
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _query(self, expr: str) -> list[dict[str, Any]]:
        answer = await self._get(self._prometheus, "/api/v1/query", [("query", expr)])
        data = answer.get("data", {}) if isinstance(answer, dict) else {}
        if data.get("resultType") == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        if data.get("resultType") != "vector":
            raise WorldUnavailable(f"Prometheus answered with {data.get('resultType')!r}, not with a vector")
        result: list[dict[str, Any]] = data["result"]
        return result

    async def _alerts(self, labels: list[tuple[str, str]], **query: str) -> list[dict[str, Any]]:
        filters = [("filter", f"{name}={quoted(value)}") for name, value in labels]
        answer = await self._get(self._alertmanager, "/api/v2/alerts", [*filters, *query.items()])
        if not isinstance(answer, list):
            raise WorldUnavailable("Alertmanager did not answer with a list of alerts")
        return answer

    async def _get(self, base: str, path: str, params: list[tuple[str, str]]) -> Any:
        if not base:
            raise WorldUnavailable("no address is configured for it")
        retrying = AsyncRetrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=1),
            retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    session = self._open()
                    async with session.get(
                        base + path, params=params, headers=self._headers[base]
                    ) as response:
                        if response.status != 200:
                            text = (await response.text())[:300]
                            raise WorldUnavailable(f"{base}{path} answered {response.status}: {text}")
                        return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WorldUnavailable(f"{base} does not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise WorldUnavailable(f"{base}{path} did not answer with JSON") from error
        raise AssertionError("tenacity either returns or raises")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self._session


def silenced_by(silences: Any, labels: Labels) -> tuple[str, ...]:
    """The ids of the active silences whose matchers all hold for these labels.

    Raises:
        WorldUnavailable: when this is not what Alertmanager answers with.
    """
    try:
        return tuple(
            silence["id"]
            for silence in silences
            if silence["status"]["state"] == "active"
            and all(_matcher(given).matches(labels) for given in silence["matchers"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WorldUnavailable("Alertmanager did not answer with silences that can be read") from error


def _of_others(ids: tuple[str, ...], silences: Any, remediation: str) -> tuple[str, ...]:
    """Those of these silences that this remediation did not make itself."""
    try:
        own = {one["id"] for one in silences if is_own(remediation, one["createdBy"], one["comment"])}
    except (KeyError, TypeError) as error:
        raise WorldUnavailable("Alertmanager did not answer with silences that can be read") from error
    return tuple(id_ for id_ in ids if id_ not in own)


def _matcher(given: dict[str, Any]) -> Matcher:
    equal, regex = given.get("isEqual", True), given["isRegex"]
    operator = {
        (True, False): Operator.EQUAL,
        (False, False): Operator.NOT_EQUAL,
        (True, True): Operator.REGEX,
        (False, True): Operator.NOT_REGEX,
    }[equal, regex]
    return Matcher(given["name"], operator, given["value"])


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _selector(metric: dict[str, str]) -> str:
    inner = ",".join(f"{k}={quoted(v)}" for k, v in metric.items() if k != "__name__")
    return f"{metric.get('__name__', '')}{{{inner}}}"
