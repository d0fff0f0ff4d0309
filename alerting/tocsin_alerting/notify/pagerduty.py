"""PagerDuty: an alert of the Events API v2 for each incident, with its whole life.

Sources: github.com/PagerDuty/developer-docs, docs/events-API-v2/01-Overview.md (answers, 512 KB),
02-Trigger-Events.md (fields, 1,024 and 255 characters, what an action does) and 05-Rate-Limits.md
(120 calls a minute for each key, then 30 s); support.pagerduty.com/docs/safelist-ips (the host for
accounts in the EU, events.eu.pagerduty.com). The names of the fields are those of PagerDuty's own
client, `pagerduty` 7.2.0; it is not used, because it blocks. Unverified, for want of a document:
403, and that a trigger with another severity changes that of an open alert.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import model_validator

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.chat_text import cut
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpSettings,
    ServiceUrl,
    json_request,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.message_templates import line
from tocsin_alerting.notify.secret_keys import link_secrets, require_secrets, secret_of
from tocsin_alerting.settings import FilePath, RefusedKey

_MOST_SUMMARY, _MOST_KEY = 1024, 255  # characters
_MOST_BYTES = 512_000
_MOST_TEXT = 4000  # of one of our details; PagerDuty names no limit of its own
_WAIT_MS = 30_000  # after 429 without Retry-After
_SEVERITIES = {"P0": "critical", "P1": "error", "P2": "warning"}

# What is over, or was closed. An alert that nobody had opened is dropped by PagerDuty.
_RESOLVES = frozenset(
    {
        Reason.RESOLVED,
        Reason.UNWATCHED,
        Reason.GIVEN_UP,
        Reason.CLOSED_BY_HAND,
        Reason.CLOSED_UNKNOWN,
    }
)
# Nobody is on it any more. PagerDuty tells nobody of a trigger while its own incident is
# acknowledged, so that one ends first.
_TRIGGERS_AGAIN = frozenset({Reason.UNACKED, Reason.ACK_EXPIRED})


class PagerdutySettings(HttpSettings):
    """`api_url` is another one in the EU service region."""

    type: Literal["pagerduty"]
    routing_key: RefusedKey = None
    routing_key_file: FilePath | None = None
    routing_key_env: str | None = None
    api_url: ServiceUrl = "https://events.pagerduty.com"

    @model_validator(mode="after")
    def _one_key(self) -> "PagerdutySettings":
        require_secrets(self, "routing_key")
        return self


class Pagerduty(HttpChannel):
    rate = "120/1m"

    def __init__(self, name: str, settings: PagerdutySettings, deps: ChannelDeps) -> None:
        self._templates, self._hostname = deps.templates, deps.hostname
        self._key = secret_of(settings, "routing_key", deps.vault)
        self._url = f"{settings.api_url.rstrip('/')}/v2/enqueue"
        super().__init__(name, settings, settings.api_url, (self._key.value,))

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        """Done when the last of its events is accepted; all of them may come twice."""
        parts = self._templates.parts(notification, now_ms)
        outcome: Outcome = Delivered(detail="nothing to send")
        for action in event_actions(notification.reason):
            event = pagerduty_event(action, notification, parts, self._hostname)
            request = json_request(self._url, {"routing_key": self._key.value, **event})
            secrets = link_secrets(parts)
            outcome = await self._http.send(request, now_ms, transcript, pagerduty_outcome, secrets)
            if not isinstance(outcome, Delivered):
                break
        return outcome


def event_actions(reason: Reason) -> tuple[str, ...]:
    """What PagerDuty is to do with the incident's alert, in this order."""
    if reason is Reason.ACKED:
        return ("acknowledge",)
    if reason in _RESOLVES:
        return ("resolve",)
    if reason is Reason.FIRED_AND_RESOLVED:  # nobody heard that it fired: a record of it
        return ("trigger", "resolve")
    if reason in _TRIGGERS_AGAIN:
        return ("resolve", "trigger")
    return ("trigger",)


def dedup_key(notification: Notification) -> str:
    """One for each incident; what is about many is an alert of its own."""
    uid = notification.key.partition("/")[0]
    key = f"tocsin-{uid}" if notification.incident else f"tocsin-{notification.key}"
    return key[:_MOST_KEY]


def pagerduty_event(
    action: str, notification: Notification, parts: MessageParts, hostname: str
) -> dict[str, Any]:
    """The body without the routing key. To acknowledge and to resolve, PagerDuty reads no more than
    whose alert it is."""
    event: dict[str, Any] = {"event_action": action, "dedup_key": dedup_key(notification)}
    if action != "trigger":
        return event
    labels = notification.alerts[0].labels if notification.alerts else notification.group_labels
    over = notification.reason is Reason.FIRED_AND_RESOLVED
    payload: dict[str, Any] = {
        "summary": cut(parts.subject, _MOST_SUMMARY),
        "source": cut(line(labels.get("instance", "")) or hostname, _MOST_SUMMARY),
        "severity": "info" if over else _SEVERITIES.get(notification.severity, "info"),
        "timestamp": datetime.fromtimestamp(notification.opened_at_ms / 1000, UTC).isoformat(),
        "custom_details": _details(notification, parts),
    }
    named = {
        "component": labels.get("model_name", "") or labels.get("target", ""),
        "group": labels.get("job", ""),
        "class": labels.get("alertname", ""),
    }
    shown = {name: cut(line(value), _MOST_SUMMARY) for name, value in named.items()}
    payload |= {name: value for name, value in shown.items() if value}
    links = [(parts.answer_label, parts.answer_url), *parts.links]
    event |= {
        "payload": payload,
        "client": "Tocsin",
        "links": [{"href": url, "text": cut(text, _MOST_SUMMARY)} for text, url in links if url],
    }
    if notification.external_url:
        event["client_url"] = notification.external_url
    if len(json.dumps(event).encode()) > _MOST_BYTES:
        payload["custom_details"] = {"incident": notification.incident}
    return event


def _details(notification: Notification, parts: MessageParts) -> Mapping[str, Any]:
    details: dict[str, Any] = {label: cut(value, _MOST_TEXT) for label, value in parts.lines}
    if parts.paragraphs:
        details["text"] = cut("\n".join(parts.paragraphs), _MOST_TEXT)
    if parts.command:
        details["command"] = parts.command
    return {"incident": notification.incident, "reason": notification.reason.value, **details}


def pagerduty_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    body = answer.json() or {}
    said = _said(body) or answer.text
    if 200 <= answer.status < 300:
        if body.get("status") == "success":
            return Delivered(str(body.get("dedup_key", "")), f"HTTP {answer.status}: {said}")
        return RetryAt(f"HTTP {answer.status}, but not from PagerDuty's Events API: {said}")
    outcome = answer.outcome(now_ms, said)
    if answer.status == 429 and isinstance(outcome, RetryAt) and outcome.not_before_ms is None:
        return RetryAt(outcome.error, now_ms + _WAIT_MS)
    if answer.status in (400, 403) and isinstance(outcome, Permanent):
        hint = "check the integration key and, in the EU service region, api_url"
        return Permanent(f"{outcome.error}; {hint}")
    return outcome


def _said(body: Mapping[str, Any]) -> str:
    errors = body.get("errors")
    said = [body.get("message"), *(errors if isinstance(errors, list) else [])]
    return "; ".join(str(text) for text in said if text)
