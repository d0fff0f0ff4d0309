"""The body that Alertmanager sends to a webhook (version 4), and ours beside it.

Source: alertmanager notify/webhook/webhook.go and template/template.go. Receivers written for
Alertmanager read it unchanged; what only we know stands under the one further key `tocsin`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tocsin_alerting.incidents.notification import Notification, NotifiedAlert
from tocsin_alerting.notify.annotation_links import absolute_links

_ZERO_TIME = "0001-01-01T00:00:00Z"


def webhook_body(
    notification: Notification, *, max_alerts: int = 0, extra: bool = True
) -> dict[str, Any]:
    """The message as JSON-able data; `max_alerts` 0 sends all of them."""
    alerts = [
        replace(alert, annotations=absolute_links(alert.annotations, notification.external_url))
        for alert in notification.alerts
    ]
    shown = alerts[:max_alerts] if max_alerts else alerts
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
    return {**message, "tocsin": _tocsin_fields(notification)} if extra else message


def rfc3339(ms: int) -> str:
    """Unix milliseconds as `2026-01-01T00:00:00.000Z`."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _alert(alert: NotifiedAlert) -> dict[str, Any]:
    return {
        "status": alert.status,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at_ms),
        "endsAt": _ZERO_TIME if alert.ends_at_ms is None else rfc3339(alert.ends_at_ms),
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
        "notRecorded": notification.not_recorded,
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: those are written as Prometheus writes them."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
