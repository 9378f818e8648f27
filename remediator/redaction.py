"""The last look before a text leaves for a page, an answer or Slack: no secret passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from remediator.telemetry import REDACTED, redact

SHORTEST = 6
"""Characters below which a configured secret is not searched for: it would hit ordinary words."""


class Redactor:
    """Hides the secrets that configuration holds, and whatever else looks like a credential."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may contain another.
        self._secrets = sorted(
            {secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True
        )

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return redact(text)

    def leaves(self, value: Any) -> Any:
        """The same JSON value with every string in it, keys too, without secrets."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self(str(key)): self.leaves(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.leaves(inner) for inner in value]
        return value
