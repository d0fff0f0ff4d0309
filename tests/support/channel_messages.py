"""Every kind of message that a channel may be given, one of each."""

from collections.abc import Iterator
from dataclasses import replace

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.channel import channel_test_notification

_DIGEST = {
    "digest": [
        {
            "incident": 43 + n,
            "severity": "P3",
            "reason": reason,
            "text": "Disk full",
            "since_ms": NEW_YEAR_MS - 120_000,
            "at_ms": NEW_YEAR_MS - 60_000,
        }
        for n, reason in enumerate(("opened", "fired_and_resolved", "unwatched"))
    ],
    "over": 2,
    "items": 5,
}
_STORM = {
    "incidents": 300,
    "firing": 290,
    "lost": 0,
    "severities": [["P0", 100], ["P2", 200]],
    "labels": [{"name": "rack", "values": [["r1", 200], ["r2", 90]], "others": 3}],
}
_END_MS = NEW_YEAR_MS + 300_000


def channel_messages(receiver: str = "ops") -> Iterator[tuple[str, Notification]]:
    """Each with its name; the incident is 42 where the message is about one."""
    yield "opened", _message(Reason.OPENED)
    yield "escalated", _message(Reason.ESCALATED, unanswered=(("li", NEW_YEAR_MS),), step=1)
    yield "repeat", _message(Reason.REPEAT, unanswered=(("li", NEW_YEAR_MS),), loop=1)
    yield "worse", _message(Reason.WORSE, times_in_24h=3)
    yield "acked", _message(Reason.ACKED, state="ACKED", actor="li", note="looking at it")
    yield "resolved", resolved(key="42/2/0/0/ops//resolved/2")
    missed = resolved(key="42/2/0/0/ops//fired_and_resolved/2", reason=Reason.FIRED_AND_RESOLVED)
    yield "fired_and_resolved", missed
    yield "unknown", _message(Reason.UNKNOWN)
    yield "given_up", _ended(Reason.GIVEN_UP)
    yield "unwatched", _ended(Reason.UNWATCHED)
    yield "closed", _ended(Reason.CLOSED_BY_HAND, actor="li")
    many = tuple(range(43, 143))
    yield "storm", _message(Reason.STORM_GREW, incidents=many, counts=_STORM)
    digest = {"incident": 0, "incidents": (43, 44, 45), "severity": "P3", "alerts": ()}
    yield "digest", _message(Reason.DIGEST, counts=_DIGEST, **digest)
    silence = {"incident": 0, "incidents": (43,), "next_at_ms": _END_MS, "severity": "P2"}
    yield "silence_ends", _message(Reason.SILENCE_ENDS, **silence)
    yield "drill", _message(Reason.OPENED, drill=True, key="42/1/0/0/ops//drill/1")
    yield "truncated", _message(Reason.NEW_ALERTS, alerts=_many_alerts(), truncated_alerts=9_900)
    yield "test", channel_test_notification(receiver, "", NEW_YEAR_MS)


def _message(reason: Reason, **changes: object) -> Notification:
    return notification(**{"key": f"42/1/0/0/ops//{reason.value}/1", "reason": reason, **changes})


def _ended(reason: Reason, **changes: object) -> Notification:
    over = {"state": "RESOLVED", "status": "resolved", "next_at_ms": None, "next_to": ()}
    return _message(reason, at_ms=_END_MS, **over, **changes)


def _many_alerts() -> tuple[object, ...]:
    return tuple(
        replace(
            ENGINE_DOWN,
            labels={**ENGINE_DOWN.labels, "target": f"10.0.0.{n}:8000"},
            annotations={**ENGINE_DOWN.annotations, "summary": f"The engine {n} is down " * 10},
            fingerprint=f"{n:016x}",
        )
        for n in range(100)
    )
