"""What Slack demands of Block Kit, as a pure function from blocks to complaints.

Limits are those of Slack's reference for blocks, elements and composition objects. Two are stricter than Slack, on
purpose: an `action_id` is unique within the whole message (Slack: within a block), and see fake_slack on `text`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100

BLOCK_KEYS = {
    "section": {"text", "fields", "accessory", "expand"},
    "header": {"text"},
    "divider": set(),
    "actions": {"elements"},
    "context": {"elements"},
    "input": {"label", "element", "hint", "optional", "dispatch_action"},
    "image": {"image_url", "slack_file", "alt_text", "title"},
    "rich_text": {"elements"},
    "markdown": {"text"},
}
ELEMENT_KEYS = {
    "button": {"text", "url", "value", "style", "confirm", "accessibility_label"},
    "static_select": {
        "placeholder",
        "options",
        "option_groups",
        "initial_option",
        "confirm",
        "focus_on_load",
    },
    "overflow": {"options", "confirm"},
    "checkboxes": {"options", "initial_options", "confirm", "focus_on_load"},
    "radio_buttons": {"options", "initial_option", "confirm", "focus_on_load"},
    "users_select": {"placeholder", "initial_user", "confirm", "focus_on_load"},
    "plain_text_input": {
        "placeholder",
        "initial_value",
        "multiline",
        "min_length",
        "max_length",
        "dispatch_action_config",
        "focus_on_load",
    },
    "image": {"image_url", "slack_file", "alt_text"},
}
MOST_OPTIONS = {"static_select": 100, "overflow": 5, "checkboxes": 10, "radio_buttons": 10}

Complaints = Iterator[str]
Seen = dict[str, set[str]]


def complaints(blocks: object, *, most: int = MESSAGE_BLOCKS) -> list[str]:
    """Return what Slack would refuse about the blocks, as it says it; nothing if they are fine."""
    if not isinstance(blocks, list):
        return ["[ERROR] must be an array [json-pointer:/blocks]"]
    found = []
    if len(blocks) > most:
        found.append(f"[ERROR] no more than {most} items allowed [json-pointer:/blocks]")
    seen: Seen = {"block_id": set(), "action_id": set()}
    for index, block in enumerate(blocks):
        found.extend(_block(block, f"/blocks/{index}", seen))
    return [one if one.startswith("[ERROR]") else f"[ERROR] {one}" for one in found]


def elements(blocks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Give every interactive element with the block that it is in."""
    for block in blocks:
        inside = [*block.get("elements", ()), block.get("accessory"), block.get("element")]
        for element in inside:
            if isinstance(element, dict) and "action_id" in element:
                yield block, element


def _block(block: object, at: str, seen: Seen) -> Complaints:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(block, dict) or kind not in BLOCK_KEYS:
        yield f"unsupported type: {kind} [json-pointer:{at}/type]"
        return
    yield from _keys(block, BLOCK_KEYS[kind] | {"type", "block_id"}, at)
    yield from _unique(block, "block_id", at, seen)
    match kind:
        case "section":
            yield from _section(block, at, seen)
        case "actions" | "context":
            yield from _row(block, at, seen, most=25 if kind == "actions" else 10)
        case "input":
            yield from _input(block, at, seen)
        case "header":
            yield from _text(block.get("text"), f"{at}/text", 150, plain=True)
        case "image":
            yield from _length(block.get("alt_text"), f"{at}/alt_text", 2000)
        case "markdown":
            yield from _length(block.get("text"), f"{at}/text", 12_000)


def _section(block: Mapping[str, Any], at: str, seen: Seen) -> Complaints:
    if "text" not in block and "fields" not in block:
        yield f"missing required field: text [json-pointer:{at}]"
    if "text" in block:
        yield from _text(block["text"], f"{at}/text", 3000)
    fields = block.get("fields", [])
    if "fields" in block and not 1 <= len(fields) <= 10:
        yield f"must have between 1 and 10 items [json-pointer:{at}/fields]"
    for index, field in enumerate(fields):
        yield from _text(field, f"{at}/fields/{index}", 2000)
    if "accessory" in block:
        yield from _element(block["accessory"], f"{at}/accessory", seen)


def _row(block: Mapping[str, Any], at: str, seen: Seen, *, most: int) -> Complaints:
    inside = block.get("elements", [])
    if not 1 <= len(inside) <= most:
        yield f"must have between 1 and {most} items [json-pointer:{at}/elements]"
    for index, element in enumerate(inside):
        is_text = isinstance(element, dict) and element.get("type") in ("mrkdwn", "plain_text")
        if block["type"] == "context" and is_text:
            yield from _text(element, f"{at}/elements/{index}", 3000)
        else:
            yield from _element(element, f"{at}/elements/{index}", seen)


def _input(block: Mapping[str, Any], at: str, seen: Seen) -> Complaints:
    yield from _text(block.get("label"), f"{at}/label", 2000, plain=True)
    yield from _element(block.get("element"), f"{at}/element", seen)
    if "hint" in block:
        yield from _text(block["hint"], f"{at}/hint", 2000, plain=True)


def _element(element: object, at: str, seen: Seen) -> Complaints:
    kind = element.get("type") if isinstance(element, dict) else None
    if not isinstance(element, dict) or kind not in ELEMENT_KEYS:
        yield f"unsupported type: {kind} [json-pointer:{at}/type]"
        return
    yield from _keys(element, ELEMENT_KEYS[kind] | {"type", "action_id"}, at)
    if kind == "image":
        yield from _length(element.get("alt_text"), f"{at}/alt_text", 2000)
        return
    if "action_id" not in element:
        yield f"missing required field: action_id [json-pointer:{at}]"
    yield from _unique(element, "action_id", at, seen)
    if kind == "button":
        yield from _button(element, at)
    if "options" in element or (kind in MOST_OPTIONS and "option_groups" not in element):
        yield from _options(element.get("options"), f"{at}/options", MOST_OPTIONS.get(kind, 100))
    if "placeholder" in element:
        yield from _text(element["placeholder"], f"{at}/placeholder", 150, plain=True)
    if "confirm" in element:
        yield from _confirm(element["confirm"], f"{at}/confirm")


def _button(button: Mapping[str, Any], at: str) -> Complaints:
    yield from _text(button.get("text"), f"{at}/text", 75, plain=True)
    for key, most in (("value", 2000), ("url", 3000), ("accessibility_label", 75)):
        if key in button:
            yield from _length(button[key], f"{at}/{key}", most)
    if button.get("style", "primary") not in ("primary", "danger"):
        yield f"must be one of primary, danger [json-pointer:{at}/style]"


def _options(options: object, at: str, most: int) -> Complaints:
    if not isinstance(options, list) or not 1 <= len(options) <= most:
        yield f"must have between 1 and {most} items [json-pointer:{at}]"
        return
    for index, option in enumerate(options):
        yield from _text(option.get("text"), f"{at}/{index}/text", 75)
        yield from _length(option.get("value"), f"{at}/{index}/value", 150)


def _confirm(confirm: object, at: str) -> Complaints:
    if not isinstance(confirm, dict):
        yield f"must be an object [json-pointer:{at}]"
        return
    yield from _keys(confirm, {"title", "text", "confirm", "deny", "style"}, at)
    for key, most in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
        yield from _text(confirm.get(key), f"{at}/{key}", most, plain=key != "text")


def _text(text: object, at: str, most: int, *, plain: bool = False) -> Complaints:
    if not isinstance(text, dict):
        yield f"missing required text object [json-pointer:{at}]"
        return
    allowed = ("plain_text",) if plain else ("plain_text", "mrkdwn")
    if text.get("type") not in allowed:
        yield f"must be one of {', '.join(allowed)} [json-pointer:{at}/type]"
    own = {"emoji"} if text.get("type") == "plain_text" else {"verbatim"}
    yield from _keys(text, own | {"type", "text"}, at)
    yield from _length(text.get("text"), f"{at}/text", most)


def _length(value: object, at: str, most: int) -> Complaints:
    if not isinstance(value, str):
        yield f"must be a string [json-pointer:{at}]"
    elif not value:
        yield f"must be more than 0 characters [json-pointer:{at}]"
    elif len(value) > most:
        yield f"must be less than {most + 1} characters [json-pointer:{at}]"


def _unique(thing: Mapping[str, Any], key: str, at: str, seen: Seen) -> Complaints:
    if key not in thing:
        return
    yield from _length(thing[key], f"{at}/{key}", 255)
    if str(thing[key]) in seen[key]:
        yield f"{key} `{thing[key]}` already exists [json-pointer:{at}/{key}]"
    seen[key].add(str(thing[key]))


def _keys(thing: Mapping[str, Any], allowed: set[str], at: str) -> Complaints:
    for key in thing:
        if key not in allowed:
            yield f"invalid additional property: {key} [json-pointer:{at}]"
