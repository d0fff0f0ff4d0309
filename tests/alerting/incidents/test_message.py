"""How a message goes from pending to sent, and how long it is tried."""

from dataclasses import replace
from itertools import pairwise

import pytest

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS
from tocsin_alerting.incidents.message import (
    GIVE_UP_MS,
    LONGEST_RETRY_AFTER_MS,
    Message,
    MessageState,
    backoff_ms,
    claimed,
    settled,
)
from tocsin_alerting.incidents.notification import Notification, Reason
from tocsin_alerting.incidents.outcome import Done, Permanent, RetryAt


def message(reason: Reason = Reason.OPENED, severity: str = "P0") -> Message:
    notification = Notification(
        key="k", incident=1, receiver="mail", contact="", reason=reason, severity=severity,
        status="firing", state="TRIGGERED", step=0, loop=0, title="t", group_key="g",
        group_labels={}, alerts=(ENGINE_DOWN,), opened_at_ms=NEW_YEAR_MS, at_ms=NEW_YEAR_MS,
    )  # fmt: skip
    return claimed(Message(1, notification, 1), NEW_YEAR_MS)


@pytest.mark.parametrize(("urgent", "longest_s"), [(True, 60), (False, 600)])
def test_waits_grow_and_end_growing(urgent: bool, longest_s: int) -> None:
    waits = [backoff_ms(attempt, 0.0, urgent=urgent) for attempt in range(1, 2000)]
    assert waits[:5] == [1000, 2000, 4000, 8000, 16000]
    assert all(a <= b for a, b in pairwise(waits)) and waits[-1] == longest_s * 1000


def test_jitter_only_shortens() -> None:
    assert backoff_ms(3, 0.999, urgent=True) == pytest.approx(3200, abs=2)


def test_outcomes() -> None:
    now = NEW_YEAR_MS + 500
    sent = settled(message(), Done("id-7"), now, 0.0)
    assert (sent.state, sent.reference, sent.lease_until_ms) == (MessageState.SENT, "id-7", None)
    refused = settled(message(), Permanent("550 no such user"), now, 0.0)
    assert (refused.state, refused.last_error) == (MessageState.FAILED, "550 no such user")
    again = settled(message(), RetryAt("503"), now, 0.0)
    assert (again.state, again.next_at_ms) == (MessageState.PENDING, now + 1000)


def test_another_side_that_names_a_time_is_believed_within_reason() -> None:
    now = NEW_YEAR_MS
    later = settled(message(), RetryAt("429", now + 20_000), now, 0.0)
    assert later.next_at_ms == now + 20_000
    never = settled(message(), RetryAt("429", now + 10**12), now, 0.0)
    assert never.next_at_ms == now + LONGEST_RETRY_AFTER_MS
    past = settled(message(), RetryAt("429", now - 5), now, 0.0)
    assert past.next_at_ms == now


@pytest.mark.parametrize(
    ("reason", "severity", "state"),
    [
        (Reason.OPENED, "P0", MessageState.PENDING),
        (Reason.OPENED, "P1", MessageState.PENDING),
        (Reason.OPENED, "P2", MessageState.FAILED),
        (Reason.RESOLVED, "P0", MessageState.FAILED),
    ],
)
def test_only_urgent_pages_are_tried_for_ever(
    reason: Reason, severity: str, state: MessageState
) -> None:
    tried = settled(message(reason, severity), RetryAt("503"), NEW_YEAR_MS + GIVE_UP_MS, 0.0)
    assert tried.state is state


def test_what_is_no_longer_wanted_is_not_tried_again() -> None:
    unwanted = replace(message(), withdrawn=True)
    assert settled(unwanted, RetryAt("503"), 0, 0.0).state is MessageState.CANCELLED
    assert settled(unwanted, Done(), 0, 0.0).state is MessageState.SENT
