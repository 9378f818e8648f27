"""What evidence must not hold: credentials, and what a connection's patterns name."""

from __future__ import annotations

from collections.abc import Sequence

import re2

from remediator.redaction import Redactor

IDENTIFIER = "[identifier]"

_ASSIGNED = (
    r"""(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|cookie)["']?\s*[:=]\s*["']?)"""
    r"""[^\s"',;&]+"""
)


class Hiding:
    """Hides credentials, and what the patterns match."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = [re2.compile(pattern) for pattern in patterns]
        self._assigned = re2.compile(_ASSIGNED)
        self._redact = Redactor()

    def __call__(self, text: str) -> str:
        """The text without them."""
        for pattern in self._patterns:
            text = pattern.sub(IDENTIFIER, text)
        hidden: str = self._assigned.sub(r"\1[redacted]", self._redact(text))
        return hidden


def tail(data: bytes, most_bytes: int) -> tuple[bytes, bool]:
    """The last whole lines that fit, and whether that is all: half a line may hide half a secret."""
    if len(data) <= most_bytes:
        return data, True
    kept = data[-most_bytes:]
    _, newline, rest = kept.partition(b"\n")
    return (rest if newline else b""), False
