"""A message as Slack's blocks: text of others stands in rich text, which reads no markup.

Sources: docs.slack.dev, reference/block-kit (rich text, actions, button), messaging/formatting-
message-text (what `text` must escape), reference/methods/chat.postMessage. A message of about
13,200 characters is refused whatever the documented limits (slackapi/bolt-js issue 2509).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tocsin_alerting.notify.chat_text import cut
from tocsin_alerting.notify.message_parts import MessageParts

MOST_CHARACTERS = 12_000  # of blocks and attachments as JSON
_MOST_BYTES = 45_000  # of the same in ASCII: Slack repeats the message in its answer
_MOST_SUBJECT = 1_000
_MOST_TEXT = 2_900  # of an element; a section of the older kind may have 3,000
_MOST_LABEL = 75  # of a button
_RANGES = frozenset({"channel", "here", "everyone"})
_STYLES = {"ack": "primary", "resolve": "danger"}


def escape_mrkdwn(text: str) -> str:
    """What begins a link, a mention or an entity stands for itself."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_message(
    parts: MessageParts,
    mentions: Sequence[str] = (),
    buttons: Sequence[tuple[str, str]] = (),
    value: str = "",
) -> dict[str, Any]:
    """`text` is what a notification shows; the first block is the first line, and in the colour of
    the state follow as many details, the first ones first, as fit. `buttons` are verbs with their
    labels; each carries `value`."""
    subject = cut(parts.subject, _MOST_SUBJECT)
    first = [*map(_mention, mentions), _run(subject, bold=True)]
    details: list[list[dict[str, Any]]] = []
    last = [[_link(parts.answer_label, parts.answer_url)]] if parts.answer_url else []
    actions = [_actions(buttons, value)] if buttons else []

    def message(lines: list[list[dict[str, Any]]]) -> dict[str, Any]:
        blocks = [*([_rich(lines)] if lines else []), *actions]
        coloured = {"color": parts.colour, "fallback": subject, "blocks": blocks}
        return {
            "text": escape_mrkdwn(subject),
            "blocks": [_rich([first])],
            "attachments": [coloured] if blocks else [],
        }

    for line in _details(parts):
        if _fits(message([*details, line, *last])):
            details.append(line)
    return message([*details, *last])


def _fits(message: Mapping[str, Any]) -> bool:
    characters = len(json.dumps(message, ensure_ascii=False))
    return characters <= MOST_CHARACTERS and len(json.dumps(message)) <= _MOST_BYTES


def _details(parts: MessageParts) -> list[list[dict[str, Any]]]:
    lines = [
        [_run(f"{label}{parts.colon}", bold=True), _run(cut(value, _MOST_TEXT))]
        for label, value in parts.lines
    ]
    lines += [[_run(cut(text, _MOST_TEXT))] for text in parts.paragraphs if text]
    return lines + [[_link(label, url)] for label, url in parts.links]


def _rich(lines: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """A section would not end its line by itself where another follows."""
    ended = [[*line, _run("\n")] for line in lines[:-1]] + [list(line) for line in lines[-1:]]
    elements = [element for line in ended for element in line]
    section = {"type": "rich_text_section", "elements": elements}
    return {"type": "rich_text", "elements": [section]}


def _run(text: str, *, bold: bool = False) -> dict[str, Any]:
    """Slack refuses an element without text."""
    run: dict[str, Any] = {"type": "text", "text": text or " "}
    return run | {"style": {"bold": True}} if bold else run


def _link(label: str, url: str) -> dict[str, Any]:
    """No button, which tells the app that it was pressed: an app without Socket Mode hears none."""
    return {"type": "link", "url": url, "text": label}


def _mention(mention: str) -> dict[str, Any]:
    if mention in _RANGES:
        return {"type": "broadcast", "range": mention}
    if mention.startswith("S"):
        return {"type": "usergroup", "usergroup_id": mention}
    return {"type": "user", "user_id": mention}


def _actions(buttons: Sequence[tuple[str, str]], value: str) -> dict[str, Any]:
    elements = [
        {
            "type": "button",
            "action_id": verb,
            "value": value,
            "text": {"type": "plain_text", "text": cut(label, _MOST_LABEL), "emoji": False},
            **({"style": _STYLES[verb]} if verb in _STYLES else {}),
        }
        for verb, label in buttons
    ]
    return {"type": "actions", "elements": elements}
