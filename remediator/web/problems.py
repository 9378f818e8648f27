"""What goes wrong in a request, as an answer: what it is, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.errors import RemediatorError


class Problem(RemediatorError):
    """A request that is answered with an error. Raised by handlers, rendered by the outermost middleware."""

    def __init__(
        self,
        status: int,
        error: str,
        mend: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.mend = status, error, mend
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": self.error, "mend": self.mend, **self.more}


STANDARD = {
    400: ("the request is not understood", "look at docs/api.md for what this route takes"),
    403: ("this is not allowed", "sign in as somebody who may"),
    404: ("there is nothing here", "look at docs/api.md for the routes"),
    405: ("this route does not take that method", "look at the Allow header for those it takes"),
    413: (
        "the body is too large",
        "lower max_alerts in Alertmanager's webhook_config, or raise the body limit",
    ),
    415: ("this content type is not understood", "send JSON"),
}
"""What the server's own refusals say."""
