"""Microsoft Teams: a workflow that posts an Adaptive Card when its URL is called.

Sources: learn.microsoft.com, Adaptive Cards schema explorer (card 1.2: RichTextBlock, TextRun,
FactSet, Action.OpenUrl) and "text features" (Markdown, DATE and TIME in braces); MicrosoftDocs/
msteams-docs, webhooks-and-connectors (28 KB a message). The text of others stands in TextRuns,
which read no Markdown: there is nothing to escape. Unverified: the bodies of the flow's errors.
"""

import json
import re
from typing import Any, Literal

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import cut
from tocsin_alerting.notify.http_sender import HttpAnswer, HttpChannel, json_request
from tocsin_alerting.notify.markdown import ZERO_WIDTH_SPACE
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.room import SecretUrlSettings, key_in, link_token, secret_url

_MOST_BYTES = 27_000  # of 28 KB; the flow adds some of its own
_MOST_SUBJECT = 1_000
_MOST_TEXT = 3_000
_MOST_ACTIONS = 5
_ACCEPTED = "the workflow took it; whether Teams shows it is not told"
_RATE_LIMITED = re.compile(r"\b429\b")
_COLOURS = {
    "firing": "Attention",
    "unknown": "Warning",
    "resolved": "Good",
    "missed": "Good",
    "closed_firing": "Warning",
    "closed_unknown": "Warning",
    "given_up": "Warning",
}


class TeamsSettings(SecretUrlSettings):
    type: Literal["teams"]


class Teams(HttpChannel):
    """Nothing is told of what it posted, so that no message can be changed."""

    def __init__(self, name: str, settings: TeamsSettings, deps: ChannelDeps) -> None:
        self._templates = deps.templates
        self._url = secret_url(settings, deps.vault)
        super().__init__(name, settings, self._url.value, key_in(self._url))

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        request = json_request(self._url.value, teams_body(parts))
        secrets = (link_token(parts),)
        return await self._http.send(request, now_ms, transcript, teams_outcome, secrets)


def teams_body(parts: MessageParts) -> dict[str, Any]:
    """The message with as many of the details, the first ones first, as fit."""
    title = _text(
        cut(parts.subject, _MOST_SUBJECT),
        weight="Bolder",
        size="Medium",
        color=_COLOURS.get(parts.kind, "Default"),
    )
    body: list[dict[str, Any]] = [title]
    actions = [_link(parts.answer_label, parts.answer_url)] if parts.answer_url else []
    message = _message(body, actions)
    details = [_pair(label, value, parts.colon) for label, value in parts.lines]
    details += [_text(cut(text, _MOST_TEXT)) for text in parts.paragraphs if text]
    for detail in details:
        body.append(detail)
        if _size(message) > _MOST_BYTES:
            body.pop()
    for label, url in parts.links[: _MOST_ACTIONS - len(actions)]:
        actions.append(_link(label, url))
        if _size(message) > _MOST_BYTES:
            actions.pop()
    return message


def _message(body: list[dict[str, Any]], actions: list[dict[str, Any]]) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": body,
        "actions": actions,
        "msteams": {"width": "Full"},
    }
    kind = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": kind, "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _size(message: dict[str, Any]) -> int:
    return len(json.dumps(message))


def _run(text: str, **style: str) -> dict[str, str]:
    """`{{DATE(...)}}` would be a date."""
    return {"type": "TextRun", "text": text.replace("{{", "{" + ZERO_WIDTH_SPACE + "{"), **style}


def _text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [_run(text, **style)]}


def _pair(label: str, value: str, colon: str) -> dict[str, Any]:
    runs = [_run(f"{label}{colon}", weight="Bolder"), _run(cut(value, _MOST_TEXT))]
    return {"type": "RichTextBlock", "inlines": runs, "spacing": "Small"}


def _link(label: str, url: str) -> dict[str, str]:
    return {"type": "Action.OpenUrl", "title": label, "url": url}


def teams_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """202 says that the flow has begun; a connector of the old kind said 200, and what failed in
    the body."""
    if answer.status == 202:
        return Delivered(detail=f"HTTP 202: {_ACCEPTED}")
    if answer.status == 200 and "failed" in answer.text.lower():
        error = f"HTTP 200, but the body refuses the message: {answer.text}"
        return RetryAt(error) if _RATE_LIMITED.search(answer.text) else Permanent(error)
    if answer.status == 200 and answer.text.lstrip().startswith("<"):
        return RetryAt(f"HTTP 200, but a page, not a workflow: {answer.text}")
    return answer.outcome(now_ms)
