"""What comes of an attempt to deliver a message (rules 9 and 28 of docs/incidents.md), and what
follows when a page reached nobody, or when other people may be reached than before."""

from collections.abc import Sequence
from dataclasses import replace

from tocsin_alerting.incidents.incident import TimerKind
from tocsin_alerting.incidents.outbox import RATE_WAIT, addressee_of
from tocsin_alerting.incidents.outbox_message import (
    WAITING_STATES,
    Delivered,
    Delivery,
    MessageState,
    OutboxMessage,
    Outcome,
    after_attempt,
    history_event,
    is_awaited,
    withdrawn,
)
from tocsin_alerting.incidents.people_changes import PeopleChanged, WayFailed
from tocsin_alerting.incidents.transitions import Event, StepFailed, transition
from tocsin_alerting.incidents.working_set import WorkingSet

_WAITING = (TimerKind.HOURS, TimerKind.FINAL)
MAX_LATE = 200  # pages that are late, looked at before the loop may do something else


def take_outcome(
    working: WorkingSet, delivery: Delivery, outcome: Outcome, now_ms: int, jitter: float
) -> None:
    """Done, again later, or refused; an outcome that nobody awaits any more changes nothing."""
    message = working.outbox.get(delivery.key)
    if message is None or not is_awaited(message, delivery.attempt, outcome):
        return
    if isinstance(outcome, Delivered) and outcome.unsent:
        if working.outbox.budgets.give_back(message):
            working.outbox.resume()
    after = after_attempt(message, outcome, now_ms, jitter)
    working.outbox.put(after)
    event, data = history_event(after, outcome, now_ms)
    stood_in = [one for one in working.outbox.of_step(after) if _waits_for(working, one, after)]
    if stood_in and event == "delivered":
        data["fallback_of"] = stood_in[0].notification.receiver
    working.note(after.notification.incident, event, now_ms, data=data)
    if after.is_page and after.state is not MessageState.SENT:
        news = after.is_lost and not message.is_lost
        page_failed(working, after, now_ms, news=news)
    elif after.is_page:
        _stands_in(working, after, stood_in)


def _waits_for(working: WorkingSet, page: OutboxMessage, arrived: OutboxMessage) -> bool:
    """Whether `arrived` went to the fallback of a page that reached nobody."""
    return page.is_lost and working.config.fallback_of(page.addressee) == arrived.addressee


def _stands_in(
    working: WorkingSet, arrived: OutboxMessage, stood_in: Sequence[OutboxMessage]
) -> None:
    """The fallback has it: what it stood in for is tried no more."""
    for other in stood_in:
        if other.state in WAITING_STATES:
            error = f"delivered by the fallback {arrived.notification.receiver}"
            working.outbox.put(replace(withdrawn(other), last_error=error))


def look_for_late(working: WorkingSet, now_ms: int) -> None:
    """Rule 9d: pages that nobody has answered with success in time. The time of those that wait for
    the rules' first word begins anew."""
    for message in working.outbox.deadlines.passed(now_ms, MAX_LATE):
        sent = message.notification
        if working.is_held(sent.incident):
            by_ms = working.deliver_by_ms(replace(message, next_at_ms=now_ms))
            working.outbox.put(replace(message, deliver_by_ms=by_ms))
            continue
        count_as_late(working, message, now_ms)


def count_as_late(working: WorkingSet, message: OutboxMessage, now_ms: int) -> None:
    """It is tried on, and nobody waits for it."""
    sent, after = message.notification, replace(message, late=True)
    working.outbox.put(after)
    data = {
        "receiver": sent.receiver,
        "contact": sent.contact,
        "reason": sent.reason.value,
        "severity": str(sent.severity),
        "waited_ms": max(0, now_ms - sent.at_ms),
        "error": message.last_error,
    }
    working.note(sent.incident, "delivery_late", now_ms, data=data)
    page_failed(working, after, now_ms, news=not message.is_lost)


def note_rate_waits(working: WorkingSet, now_ms: int) -> None:
    """A line for each message that its budget delays, once."""
    for message, until_ms in working.outbox.budgets.drain_news():
        sent = message.notification
        data = {
            "receiver": sent.receiver,
            "contact": sent.contact,
            "reason": sent.reason.value,
            "until_ms": until_ms,
        }
        working.note(sent.incident, "rate_wait", now_ms, data=data)
        current = working.outbox.get(message.key)
        if current is not None and not current.attempts and not current.last_error:
            working.outbox.put(replace(current, last_error=RATE_WAIT))


def page_failed(working: WorkingSet, message: OutboxMessage, now_ms: int, *, news: bool) -> None:
    """`news`: until now there was hope that the page would reach somebody in time."""
    sent, outbox = message.notification, working.outbox
    incident = working.incidents.get(sent.incident)
    if incident is None:
        return
    if message.state in (MessageState.FAILED, MessageState.CANCELLED):
        outbox.retract(message, incident.cycle)
    if not news:
        return
    step = (message.generation, sent.step, sent.loop)
    way = addressee_of(message)
    other = WayFailed(*step, way, outbox.tried(message), sent.reason)
    _apply(working, sent.incident, other, now_ms)
    if outbox.step_failed(message):
        _apply(working, sent.incident, StepFailed(*step), now_ms)


def look_for_people(working: WorkingSet, now_ms: int) -> None:
    """Somebody took a shift, or a calendar was read: what waits for people looks again, once."""
    if not working.people_changed:
        return
    working.people_changed = False
    for number in list(working.incidents):
        timers = working.schedule.of_incident(number)
        for kind in _WAITING:
            if (timer := timers.get(kind)) is not None and timer.due_at_ms > now_ms:
                _apply(working, number, PeopleChanged(timer), now_ms)


def _apply(working: WorkingSet, number: int, event: Event, now_ms: int) -> None:
    incident = working.incidents[number]
    working.apply(transition(incident, event, now_ms, working.config), now_ms)
