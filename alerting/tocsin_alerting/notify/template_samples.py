"""A message of each kind, as templates may meet it: to check them with, and to look at."""

from collections.abc import Iterator
from dataclasses import replace

from tocsin_alerting.incidents.damping import FIRED_AGAIN, WITHIN
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Evidence, Notification, NotifiedAlert

_AT_MS = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC
_OVER = frozenset({Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.UNWATCHED})
_OWNED = frozenset({Reason.ACKED, Reason.ACK_REMIND, Reason.SLO_BREACH})
_AGAIN = frozenset({Reason.ESCALATED, Reason.REPEAT, Reason.FINAL})
_ENDED = frozenset({Reason.GIVEN_UP, Reason.CLOSED_BY_HAND, Reason.CLOSED_UNKNOWN})

_ALERT = NotifiedAlert(
    status="firing",
    labels={
        "alertname": "InferenceKvCacheNearlyFull",
        "severity": "P1",
        "instance": "gpu-1",
        "target": "127.0.0.1:8000",
        "model_name": "Qwen2.5-7B-Instruct",
    },
    annotations={
        "summary": "The KV cache of 127.0.0.1:8000 (Qwen2.5-7B-Instruct) is nearly full.",
        "description": "14 requests wait. Longer prompts, or more of them, will be preempted.",
        "runbook_url": "http://127.0.0.1:4911/runbooks/InferenceKvCacheNearlyFull",
        "dashboard_url": "https://grafana.example.com/d/tocsin",
    },
    starts_at_ms=_AT_MS,
    ends_at_ms=None,
    value=0.97,
    fingerprint="449f87e64cb549a2",
    active_at_ms=_AT_MS - 120_000,
)
EVIDENCE = Evidence(
    value="97%",
    limit="> 95%",
    numbers=(
        ("ttft_p95", "3.82s"),
        ("queue", "14"),
        ("kv_cache", "97%"),
        ("tokens", "412 tok/s"),
        ("errors", "1.2%"),
    ),
    chart_from_ms=_AT_MS - 3_600_000,
    chart_until_ms=_AT_MS,
    lowest="41%",
    highest="97%",
)


def sample(reason: Reason, severity: str = "P1") -> Notification:
    """A message for this reason, with all that one can have."""
    over = reason in _OVER
    ended_ms = _AT_MS + 900_000 if over else None
    alert = replace(
        _ALERT,
        labels={**_ALERT.labels, "severity": severity},
        status="resolved" if over else "firing",
        ends_at_ms=ended_ms,
    )
    closed = reason in (Reason.CLOSED_BY_HAND, Reason.CLOSED_UNKNOWN)
    state = "RESOLVED" if over or reason in _ENDED else "ACKED" if reason in _OWNED else "TRIGGERED"
    page = Notification(
        key=f"sample/{reason.value}/{severity}",
        incident=42,
        receiver="ops",
        contact="li",
        reason=reason,
        severity=severity,
        status="resolved" if over else "firing",
        state=state,
        step=0,
        loop=0,
        title="InferenceKvCacheNearlyFull target=127.0.0.1:8000",
        group_key='{}:{alertname="InferenceKvCacheNearlyFull"}',
        group_labels={"alertname": "InferenceKvCacheNearlyFull", "target": "127.0.0.1:8000"},
        alerts=(alert,),
        opened_at_ms=_AT_MS,
        at_ms=_AT_MS + (900_000 if over else 2_000),
        actor="li" if state == "ACKED" or closed else "",
        note=f"{FIRED_AGAIN}3{WITHIN}12m" if reason is Reason.FLAPPING else "",
        others=("wang", "ops-chat"),
        next_at_ms=_AT_MS + 902_000 if state == "TRIGGERED" or closed else None,
        next_to=("wang by phone",) if state == "TRIGGERED" else (),
        external_url="http://127.0.0.1:4911",
        began_at_ms=_AT_MS - 120_000,
        unanswered=(("li", _AT_MS),) if reason in _AGAIN else (),
        times_in_24h=3,
        evidence=EVIDENCE,
    )
    if reason is Reason.TEST:
        nothing = replace(alert, labels={"alertname": "TocsinChannelTest"}, annotations={})
        return replace(page, alerts=(nothing,), evidence=None, title="TocsinChannelTest ops")
    return _of_many(page) if reason in (Reason.DIGEST, Reason.STORM_GREW) else page


def _of_many(page: Notification) -> Notification:
    if page.reason is Reason.STORM_GREW:
        named = {"name": "alertname", "values": [["InferenceEngineDown", 30]], "others": 2}
        storm = {"incidents": 37, "firing": 35, "lost": 0, "severities": [["P0", 3], ["P2", 34]]}
        counts = {**storm, "labels": [named]}
        alert = replace(page.alerts[0], labels={"alertname": "Storm"}, annotations={})
        page = replace(page, alerts=(alert,), evidence=None, title="Storm")
        return replace(page, counts=counts, incidents=tuple(range(40, 77)))
    one = {"incident": 12, "severity": "P3", "text": "A disk fills", "reason": "opened"}
    two = {"incident": 13, "severity": "P2", "text": "A GPU idles", "reason": "resolved"}
    times = {"since_ms": _AT_MS - 600_000, "at_ms": _AT_MS}
    counts = {"digest": [{**one, **times}, {**two, **times}], "items": 2, "over": 1}
    page = replace(page, alerts=(), group_labels={}, next_at_ms=None, next_to=(), evidence=None)
    return replace(page, counts=counts, incident=0, incidents=(12, 13))


def samples() -> Iterator[Notification]:
    """Of every reason; drills, what was not recorded, many alerts, odd signs, hardly anything."""
    for reason in Reason:
        yield sample(reason)
    page = sample(Reason.OPENED, "P0")
    yield replace(page, drill=True)
    yield replace(page, not_recorded=True)
    more = replace(page.alerts[0], labels={**page.alerts[0].labels, "gpu": "1"})
    yield replace(page, alerts=(*page.alerts, more), truncated_alerts=5)
    odd = {"summary": 'The model "A\\B" <is> down.'}  # what a body must write as JSON does
    yield replace(page, alerts=(replace(page.alerts[0], annotations=odd),))
    bare = replace(page.alerts[0], annotations={}, labels={"alertname": "A"}, value=0.0)
    page = replace(page, others=(), next_at_ms=None, next_to=(), evidence=None)
    yield replace(page, alerts=(bare,), external_url="", times_in_24h=1)
