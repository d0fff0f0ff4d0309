"""Digests: what is not urgent waits for its time, and is one message to each addressee then.

Each item is a message of its own in the outbox, due when the digest is. So a restart keeps it, an
acknowledgement or a silence withdraws it, and who got it gets the end of it too. Only when they are
claimed they become one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from typing import Any

from tocsin_alerting.incidents.escalation import policy_begins_ms
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Incident, Reason
from tocsin_alerting.incidents.notification import MAX_ALERTS, Notification
from tocsin_alerting.incidents.outbox_message import (
    END_REASONS,
    URGENT_SEVERITIES,
    Delivery,
    OutboxMessage,
)
from tocsin_alerting.incidents.routing import IncidentConfig

DAY_MS = 86_400_000
DAILY_AT = time(9)  # in the configuration's time zone
_MOST_CHANGES = 100
_MINUTE_MS, _HALF_HOUR_MS = 60_000, 1_800_000
# Somebody asked for these, or they are about what he does: they do not wait.
_AT_ONCE = frozenset(
    {
        Reason.ASSIGNED,
        Reason.MANUAL,
        Reason.ACK_REMIND,
        Reason.ACK_EXPIRED,
        Reason.UNACKED,
        Reason.WORSE,
    }
)


def digest_at_ms(
    incident: Incident, reason: Reason, target: Addressee, now_ms: int, config: IncidentConfig
) -> int | None:
    """When the digest is due in which the message goes out; None: it goes by itself, at once."""
    period_ms = incident.policy.digest_ms
    if period_ms is None or incident.severity in URGENT_SEVERITIES or reason in _AT_ONCE:
        return None
    at_ms = next_digest_ms(now_ms, period_ms, config)
    contact = config.roster.contacts.get(target.contact)
    for _ in range(_MOST_CHANGES):
        change_ms = policy_begins_ms(incident, at_ms, config)
        if change_ms is None and contact and not contact.may_be_told(at_ms, incident.severity):
            change_ms = contact.next_change_ms(at_ms)
        if change_ms is None:
            break
        at_ms = change_ms
    return off_the_half_hour_ms(at_ms, period_ms, target)


def off_the_half_hour_ms(at_ms: int, period_ms: int, target: Addressee) -> int:
    """A minute to four later where `at_ms` is a full or half hour, the same for each addressee, so
    that the digests of all policies stay one. Chat services are loaded then: Feishu's guide says
    that its robots refuse messages (11232) at 10:00 and 17:30."""
    if at_ms % _HALF_HOUR_MS:
        return at_ms
    most = min(4, max(1, period_ms // _MINUTE_MS - 1))  # the next digest must not overtake it
    number = int.from_bytes(sha256(f"{target.receiver}/{target.contact}".encode()).digest()[:8])
    return at_ms + (1 + number % most) * _MINUTE_MS


def next_digest_ms(now_ms: int, period_ms: int, config: IncidentConfig) -> int:
    """The first time after now: whole periods of the clock; of days, at nine in the morning."""
    days, rest = divmod(period_ms, DAY_MS)
    if rest or not days:
        return (now_ms // period_ms + 1) * period_ms
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(config.zone)
    day = local.date()
    while True:
        at = datetime.combine(day, DAILY_AT, config.zone)
        at_ms = round(at.timestamp() * 1000)
        if day.toordinal() % days == 0 and at_ms > now_ms:
            return at_ms
        day += timedelta(days=1)


def deliveries(
    marked: Sequence[OutboxMessage],
    unrecorded: frozenset[str],
    thread_of: Callable[[OutboxMessage], str] = lambda message: "",
) -> list[Delivery]:
    """What was claimed, as it is sent: the items of a digest to one addressee are one message.
    `thread_of` says what the other side called the first message of the same incident."""
    found: list[Delivery] = []
    digests: dict[Addressee, list[Delivery]] = {}
    for message in marked:
        sent = replace(
            message.notification,
            not_recorded=message.key in unrecorded,
            thread=thread_of(message),
        )
        delivery = Delivery(message.key, sent, message.attempts)
        if sent.digest_at_ms is None:
            found.append(delivery)
        else:
            digests.setdefault(message.addressee, []).append(delivery)
    return [*found, *(_digest(items) for items in digests.values())]


def _digest(items: Sequence[Delivery]) -> Delivery:
    """One item alone is its own message. The key is that of the same items alone."""
    if len(items) == 1:
        return items[0]
    items = sorted(items, key=lambda one: (_is_over(one), one.notification.severity))
    keys = "\n".join(sorted(one.key for one in items))
    first = items[0].notification
    over = sum(map(_is_over, items))
    shown = [one.notification for one in items[:MAX_ALERTS]]
    notification = replace(
        first,
        key=f"digest/{sha256(keys.encode()).hexdigest()[:32]}",
        incident=0,
        incidents=tuple(one.incident for one in shown),
        reason=Reason.DIGEST,
        status="firing" if over < len(items) else "resolved",
        title=f"digest of {len(items)} incidents",
        group_key="digest",
        group_labels={},
        alerts=tuple(one.alerts[0] for one in shown if one.alerts),
        opened_at_ms=min(one.notification.opened_at_ms for one in items),
        at_ms=first.digest_at_ms or first.at_ms,
        actor="",
        note="",
        others=(),
        next_at_ms=None,
        next_to=(),
        not_recorded=any(one.notification.not_recorded for one in items),
        truncated_alerts=len(items) - len(shown),
        began_at_ms=None,
        unanswered=(),
        times_in_24h=1,
        drill=all(one.notification.drill for one in items),
        counts={"digest": [_item(one) for one in shown], "over": over, "items": len(items)},
    )
    return Delivery(notification.key, notification, items[0].attempt, tuple(items))


def _is_over(one: Delivery) -> bool:
    return one.notification.reason in END_REASONS


def _item(one: Notification) -> Mapping[str, Any]:
    summary = one.alerts[0].annotations.get("summary", "") if one.alerts else ""
    return {
        "incident": one.incident,
        "severity": one.severity,
        "reason": one.reason.value,
        "text": summary or one.title,
        "since_ms": one.opened_at_ms if one.began_at_ms is None else one.began_at_ms,
        "at_ms": one.at_ms,
    }


def ready_with(
    first: OutboxMessage, waiting: Iterable[OutboxMessage], most: int
) -> list[OutboxMessage]:
    """The other items of the same digest among what may go now, one of each incident."""
    chosen: dict[int, OutboxMessage] = {}
    for other in sorted(waiting, key=lambda message: message.id):
        if other.notification.digest_at_ms is None or other.addressee != first.addressee:
            continue
        if other.key != first.key and other.notification.incident != first.notification.incident:
            chosen.setdefault(other.notification.incident, other)
    return list(chosen.values())[:most]
