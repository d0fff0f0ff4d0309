"""Messages to look at, and to try a channel with: of an incident that there is not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert
from tocsin_alerting.notify.channel import channel_test_notification

_MINUTE_MS = 60_000
_LASTED_MS = 12 * _MINUTE_MS
_OVER: Mapping[str, Any] = {"status": "resolved", "state": "RESOLVED"}
# By the word for it: why the message is sent, and what is different in it.
_STATES: Mapping[str, tuple[Reason, Mapping[str, Any]]] = {
    "firing": (Reason.OPENED, {}),
    "escalated": (Reason.ESCALATED, {"step": 1}),
    "repeat": (Reason.REPEAT, {"loop": 1}),
    "acknowledged": (Reason.ACKED, {"state": "ACKED", "actor": "li"}),
    "resolved": (Reason.RESOLVED, _OVER),
    "fired-and-resolved": (Reason.FIRED_AND_RESOLVED, _OVER),
    "unknown": (Reason.UNKNOWN, {}),
    "given-up": (Reason.GIVEN_UP, _OVER),
    "closed": (Reason.CLOSED_BY_HAND, {"state": "CLOSED", "actor": "li"}),
    "storm": (Reason.STORM_GREW, {"incidents": (42, 43)}),
    "digest": (Reason.DIGEST, {"incident": 0, "incidents": (42, 43), "alerts": ()}),
    "silence-ends": (Reason.SILENCE_ENDS, {"incident": 0, "incidents": (42,)}),
    "drill": (Reason.OPENED, {"drill": True}),
    "test": (Reason.TEST, {}),
}
SAMPLE_STATES = tuple(_STATES)


def sample_notification(
    state: str,
    severity: str,
    receiver: str,
    contact: str,
    now_ms: int,
    external_url: str = "",
    instance: str = "gpu-1",
) -> Notification:
    """A message of incident 42 to look at, as if an engine had been down; `state` is one of
    `SAMPLE_STATES`. Its key is that of no incident: a link in it answers nothing."""
    if state == "test":
        test = channel_test_notification(receiver, contact, now_ms, external_url)
        return replace(test, severity=severity)
    reason, changes = _STATES[state]
    over = changes.get("status") == "resolved"
    opened_ms = now_ms if state in ("firing", "drill") else now_ms - _LASTED_MS
    alert = _alert(severity, opened_ms - _MINUTE_MS, now_ms if over else None, instance)
    page = Notification(
        key=f"sample/{receiver}/{contact}/{state}/{now_ms}",
        incident=42,
        receiver=receiver,
        contact=contact,
        reason=reason,
        severity=severity,
        status="firing",
        state="TRIGGERED",
        step=0,
        loop=0,
        title="InferenceEngineDown 127.0.0.1:8000",
        group_key='{}:{alertname="InferenceEngineDown", target="127.0.0.1:8000"}',
        group_labels={"alertname": "InferenceEngineDown", "target": "127.0.0.1:8000"},
        alerts=(alert,),
        opened_at_ms=opened_ms,
        at_ms=now_ms,
        external_url=external_url,
        began_at_ms=opened_ms - _MINUTE_MS,
        counts=_counts(state, severity, opened_ms),
    )
    if reason in (Reason.OPENED, Reason.ESCALATED, Reason.REPEAT):
        page = replace(page, next_at_ms=now_ms + 15 * _MINUTE_MS, next_to=("li by email",))
    if reason in (Reason.ESCALATED, Reason.REPEAT):
        page = replace(page, unanswered=(("li", opened_ms),))
    if reason is Reason.SILENCE_ENDS:
        page = replace(page, next_at_ms=now_ms + 60 * _MINUTE_MS)
    return replace(page, **changes)


def in_state(page: Notification, state: str) -> Notification:
    """A message of an incident as it would be in another state of `SAMPLE_STATES`."""
    reason, changes = _STATES[state]
    kept = ("status", "state", "actor", "drill")
    changes = {name: value for name, value in changes.items() if name in kept}
    return replace(page, reason=reason, **changes)


def trial_notification(
    state: str, severity: str, receiver: str, contact: str, now_ms: int, external_url: str = ""
) -> Notification:
    """A message that may be sent: a test, or one of those marked as a drill and of no incident."""
    sample = sample_notification(state, severity, receiver, contact, now_ms, external_url)
    if state == "test":
        return sample
    alerts = channel_test_notification(receiver, contact, now_ms).alerts
    shown = tuple(replace(one, labels={**one.labels, "severity": severity}) for one in alerts)
    return replace(
        sample, incident=0, drill=True, title=f"TocsinChannelTest {receiver}", alerts=shown
    )


def _alert(severity: str, since_ms: int, ended_ms: int | None, instance: str) -> NotifiedAlert:
    return NotifiedAlert(
        status="firing" if ended_ms is None else "resolved",
        labels={
            "alertname": "InferenceEngineDown",
            "severity": severity,
            "target": "127.0.0.1:8000",
            "instance": instance,
            "model_name": "Qwen2.5-7B",
        },
        annotations={
            "summary": "Engine 127.0.0.1:8000 (Qwen2.5-7B) does not answer",
            "description": "No answer to /metrics for 1m. Its clients get errors.",
            "runbook_url": "http://127.0.0.1:4911/runbooks/InferenceEngineDown",
        },
        starts_at_ms=since_ms + _MINUTE_MS,
        ends_at_ms=ended_ms,
        value=0.0,
        fingerprint="449f87e64cb549a2",
        active_at_ms=since_ms,
    )


def _counts(state: str, severity: str, since_ms: int) -> Mapping[str, Any]:
    if state == "storm":
        labels = [{"name": "rack", "values": [["r1", 200], ["r2", 90]], "others": 0}]
        severities = [[severity, 300]]
        return {
            **{"incidents": 300, "firing": 290, "lost": 0},
            **{"severities": severities, "labels": labels},
        }
    if state != "digest":
        return {}
    item = {"severity": severity, "text": "Disk / on gpu-1 is 90 % full", "since_ms": since_ms}
    items = [
        {**item, "incident": 42, "reason": "opened", "at_ms": since_ms},
        {**item, "incident": 43, "reason": "fired_and_resolved", "at_ms": since_ms + _MINUTE_MS},
    ]
    return {"digest": items, "over": 1, "items": 2}
