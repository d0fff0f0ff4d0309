"""The body that Alertmanager sends to a webhook (version 4), and ours beside it.

Source: alertmanager notify/webhook/webhook.go and template/template.go. Receivers written for
Alertmanager read it unchanged; what only we know stands under the one further key `tocsin`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert
from tocsin_alerting.time_format import rfc3339

MOST_BYTES = 256 << 10  # of labels and annotations; of one alert they go out whole
_AS_IS = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")


def webhook_body(
    notification: Notification, *, max_alerts: int = 0, extra: bool = True, answer_url: str = ""
) -> dict[str, Any]:
    """The message as JSON-able data; `max_alerts` 0 sends as many as fit. `answer_url` is where its
    addressee answers it."""
    alerts = [
        replace(alert, annotations=absolute_links(alert.annotations, notification.external_url))
        for alert in notification.alerts
    ]
    shown = _fitting(alerts[:max_alerts] if max_alerts else alerts)
    message: dict[str, Any] = {
        "version": "4",
        "groupKey": notification.group_key,
        "truncatedAlerts": len(alerts) - len(shown) + notification.truncated_alerts,
        "status": notification.status,
        "receiver": notification.receiver,
        "groupLabels": dict(notification.group_labels),
        "commonLabels": _common_labels([alert.labels for alert in alerts]),
        "commonAnnotations": _common_labels([alert.annotations for alert in alerts]),
        "externalURL": notification.external_url,
        "alerts": [_alert(alert) for alert in shown],
    }
    ours = {**_tocsin_fields(notification), "answerURL": answer_url}
    return {**message, "tocsin": ours} if extra else message


def _fitting(alerts: Sequence[NotifiedAlert]) -> Sequence[NotifiedAlert]:
    """The first ones, as many as fit; always one. Labels are told whole or not at all: who is told
    half of one takes it for another."""
    left = MOST_BYTES
    for number, alert in enumerate(alerts):
        pairs = (*alert.labels.items(), *alert.annotations.items())
        left -= sum(len(text.encode("utf-8", "replace")) for pair in pairs for text in pair)
        if left < 0 and number:
            return alerts[:number]
    return alerts


def cloud_event(
    notification: Notification, message: Mapping[str, Any], message_id: str, *, binary: bool
) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of a CloudEvent. Source: CloudEvents 1.0.2, sections 3.1 to 3.3 of its HTTP
    protocol binding, where header values are percent-encoded."""
    attributes = {
        "specversion": "1.0",
        "id": message_id,
        "source": notification.external_url or "urn:tocsin",
        "type": f"tocsin.incident.{notification.reason.value}",
        "subject": f"incidents/{notification.incident}",
        "time": rfc3339(notification.at_ms),
    }
    if binary:
        headers = {f"ce-{name}": quote(value, _AS_IS) for name, value in attributes.items()}
        return {"Content-Type": "application/json", **headers}, dict(message)
    whole = {**attributes, "datacontenttype": "application/json", "data": message}
    return {"Content-Type": "application/cloudevents+json"}, whole


def standard_event(notification: Notification, message: Mapping[str, Any]) -> dict[str, Any]:
    """Source: standard-webhooks/spec/standard-webhooks.md, "Payload structure"."""
    return {
        "type": f"incident.{notification.reason.value}",
        "timestamp": rfc3339(notification.at_ms),
        "data": message,
    }


def _alert(alert: NotifiedAlert) -> dict[str, Any]:
    return {
        "status": alert.status,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at_ms),
        "endsAt": rfc3339(alert.ends_at_ms),
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }


def _common_labels(sets: Iterable[Mapping[str, str]]) -> dict[str, str]:
    first, *rest = [set(labels.items()) for labels in sets] or [set()]
    return dict(sorted(first.intersection(*rest)))


def _tocsin_fields(notification: Notification) -> dict[str, Any]:
    return {
        "key": notification.key,
        "incident": notification.incident,
        "reason": notification.reason.value,
        "severity": notification.severity,
        "state": notification.state,
        "step": notification.step,
        "loop": notification.loop,
        "title": notification.title,
        "contact": notification.contact,
        "others": list(notification.others),
        "nextAt": notification.next_at_ms and rfc3339(notification.next_at_ms),
        "nextTo": list(notification.next_to),
        "actor": notification.actor,
        "note": notification.note,
        "openedAt": rfc3339(notification.opened_at_ms),
        "at": rfc3339(notification.at_ms),
        "values": {alert.fingerprint: _number(alert.value) for alert in notification.alerts},
        "evidence": notification.evidence and notification.evidence.as_data(),
        "drill": notification.drill,
        "incidents": list(notification.incidents),
        "timesIn24h": notification.times_in_24h,
        "counts": dict(notification.counts),
        "notRecorded": notification.not_recorded,
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: those are written as Prometheus writes them."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
