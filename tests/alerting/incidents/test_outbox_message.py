"""How a message goes from pending to sent, and how long it is tried."""

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    GIVE_UP_MS,
    LEASE_MS,
    MAX_RETRY_AFTER_MS,
    Delivered,
    MessageState,
    OutboxMessage,
    Outcome,
    Permanent,
    RetryAt,
    after_attempt,
    backoff_ms,
    claimed,
    lease_expired,
    withdrawn,
)


def message(reason: Reason = Reason.OPENED, severity: str = "P0") -> OutboxMessage:
    notification = Notification(
        key="k", incident=1, receiver="mail", contact="", reason=reason, severity=severity,
        status="firing", state="TRIGGERED", step=0, loop=0, title="t", group_key="g",
        group_labels={}, alerts=(ENGINE_DOWN,), opened_at_ms=NEW_YEAR_MS, at_ms=NEW_YEAR_MS,
    )  # fmt: skip
    return claimed(OutboxMessage(1, notification, 1), NEW_YEAR_MS)


@pytest.mark.parametrize(("urgent", "longest_s"), [(True, 60), (False, 600)])
def test_waits_grow_and_end_growing(urgent: bool, longest_s: int) -> None:
    waits = [backoff_ms(attempt, 0.0, urgent=urgent) for attempt in range(1, 2000)]
    assert waits[:5] == [1000, 2000, 4000, 8000, 16000]
    assert all(a <= b for a, b in pairwise(waits)) and waits[-1] == longest_s * 1000


def test_jitter_only_shortens() -> None:
    assert backoff_ms(3, 0.999, urgent=True) == pytest.approx(3200, abs=2)


def test_outcomes() -> None:
    now = NEW_YEAR_MS + 500
    sent = after_attempt(message(), Delivered("id-7"), now, 0.0)
    assert (sent.state, sent.reference, sent.lease_until_ms) == (MessageState.SENT, "id-7", None)
    gone = after_attempt(message(), Permanent("550 no such user", final=True), now, 0.0)
    assert (gone.state, gone.last_error) == (MessageState.FAILED, "550 no such user")
    assert gone.is_lost and gone.refusals == 0
    refused = after_attempt(message(), Permanent("535 no"), now, 0.0)
    assert (refused.state, refused.next_at_ms) == (MessageState.PENDING, now + 15_000)
    assert (
        refused.is_lost and not after_attempt(claimed(refused, now), Delivered(), now, 0.0).is_lost
    )
    again = after_attempt(message(), RetryAt("503"), now, 0.0)
    assert (again.state, again.next_at_ms) == (MessageState.PENDING, now + 1000)


def test_another_side_that_names_a_time_is_believed_within_reason() -> None:
    now = NEW_YEAR_MS
    later = after_attempt(message(), RetryAt("429", now + 20_000), now, 0.0)
    assert later.next_at_ms == now + 20_000
    never = after_attempt(message(), RetryAt("429", now + 10**12), now, 0.0)
    assert never.next_at_ms == now + MAX_RETRY_AFTER_MS
    past = after_attempt(message(), RetryAt("429", now - 5), now, 0.0)
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
    tried = after_attempt(message(reason, severity), RetryAt("503"), NEW_YEAR_MS + GIVE_UP_MS, 0.0)
    assert tried.state is state


def test_what_is_no_longer_wanted_is_not_tried_again() -> None:
    unwanted = replace(message(), withdrawn=True)
    assert after_attempt(unwanted, RetryAt("503"), 0, 0.0).state is MessageState.CANCELLED
    assert after_attempt(unwanted, Delivered(), 0, 0.0).state is MessageState.SENT
    assert after_attempt(unwanted, Permanent("535"), 0, 0.0).state is MessageState.CANCELLED
    assert (
        after_attempt(unwanted, Permanent("410", final=True), 0, 0.0).state is MessageState.FAILED
    )


SECONDS = {
    "P0": [15, 30, 60, *range(120, 661, 60)],
    "P1": [15, 30, 60, *range(120, 661, 60)],
    "P2": [60, 300, 600, 1800, 3600],
    "P4": [60, 300, 600, 1800, 3600],
}


@pytest.mark.parametrize("severity", SECONDS)
@pytest.mark.parametrize("reason", [Reason.OPENED, Reason.RESOLVED])
def test_what_is_refused_is_tried_at_these_seconds_and_then_given_up(
    severity: str, reason: Reason
) -> None:
    one, now = message(reason, severity), NEW_YEAR_MS
    tries = []
    while (one := after_attempt(one, Permanent("550"), now, 0.0)).state is MessageState.PENDING:
        now = one.next_at_ms
        tries.append((now - NEW_YEAR_MS) // 1000)
        one = claimed(one, now)
    assert one.state is MessageState.FAILED
    assert tries == SECONDS[severity]


OUTCOMES = st.sampled_from(["refused", "later", "named", "gone", "done"])
KINDS: dict[str, Outcome] = {
    "refused": Permanent("535"),
    "later": RetryAt("503"),
    "gone": Permanent("410", final=True),
    "done": Delivered("ref"),
}


@given(st.lists(OUTCOMES, max_size=40), st.sampled_from(["P0", "P2"]), st.floats(0, 0.999))
def test_any_row_of_answers_against_a_plain_count(
    answers: list[str], severity: str, jitter: float
) -> None:
    """A refusal moves one place on in its list of waits, whatever came between."""
    waits = [b - a for a, b in pairwise([0, *SECONDS[severity]])]
    assert list(accumulate(waits)) == SECONDS[severity]
    one, now, refused = message(Reason.OPENED, severity), NEW_YEAR_MS, 0
    for count, answer in enumerate(answers, start=1):
        refused += answer == "refused"
        outcome = KINDS.get(answer) or RetryAt("429", now + 7_000)
        one = after_attempt(one, outcome, now, jitter)
        over = answer in ("gone", "done") or refused > len(waits)
        assert (one.state is not MessageState.PENDING) == over
        assert one.is_lost == (answer != "done" and (refused > 0 or answer == "gone"))
        if over:
            assert (one.state is MessageState.SENT) == (answer == "done")
            return
        planned = {
            "refused": waits[min(refused, len(waits)) - 1] * 1000,
            "named": 7_000,
            "later": backoff_ms(count, 0.0, urgent=severity == "P0"),
        }[answer]
        shortest = planned if answer == "named" else 0.8 * planned - 1
        assert shortest <= one.next_at_ms - now <= planned
        now = one.next_at_ms
        one = claimed(one, now)


def test_a_try_that_nobody_reported_is_made_again_if_it_is_still_wanted() -> None:
    late_ms = NEW_YEAR_MS + LEASE_MS
    again = lease_expired(message(), late_ms)
    assert (again.state, again.next_at_ms, again.key) == (MessageState.PENDING, late_ms, "k")
    assert lease_expired(withdrawn(message()), late_ms).state is MessageState.CANCELLED
