"""What Slack demands of a dialog (a modal view)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.slack_blocks import VIEW_BLOCKS, complaints
from tests.support.slack_state import SlackError


def checked_view(view: object) -> dict[str, Any]:
    """Return a view, given as an object or as JSON, or refuse it as Slack does."""
    if isinstance(view, str):
        try:
            view = json.loads(view)
        except ValueError:
            view = None
    if not isinstance(view, dict):
        raise SlackError("invalid_arguments", ["[ERROR] must be an object [json-pointer:/view]"])
    wrong = [*complaints(view.get("blocks"), most=VIEW_BLOCKS), *_frame(view)]
    if wrong:
        raise SlackError("invalid_arguments", wrong)
    return dict(view)


def _frame(view: Mapping[str, Any]) -> Iterator[str]:
    if view.get("type") != "modal":
        yield "[ERROR] must be modal [json-pointer:/view/type]"
    for key in ("title", "submit", "close"):
        if (key == "title" or key in view) and not _is_short(view.get(key)):
            yield f"[ERROR] must be plain text of 1 to 24 characters [json-pointer:/view/{key}]"
    kinds = [block.get("type") for block in view.get("blocks") or [] if isinstance(block, dict)]
    if "input" in kinds and "submit" not in view:
        yield "[ERROR] must have a submit button, as it has an input block [json-pointer:/view]"
    for key, most in (("private_metadata", 3000), ("callback_id", 255)):
        if len(str(view.get(key, ""))) > most:
            yield f"[ERROR] must be less than {most + 1} characters [json-pointer:/view/{key}]"


def _is_short(text: object) -> bool:
    return (
        isinstance(text, dict)
        and text.get("type") == "plain_text"
        and 1 <= len(str(text.get("text", ""))) <= 24
    )
