"""The outbox and the timers against plain lists that are searched whole each time."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from support.notifications import notification
from tocsin_alerting.incidents.incident import Reason, Timer, TimerKind
from tocsin_alerting.incidents.outbox import Outbox
from tocsin_alerting.incidents.outbox_message import (
    MessageState,
    OutboxMessage,
    claimed,
    lease_expired,
)
from tocsin_alerting.incidents.timers import TimerSchedule

KINDS = (TimerKind.STEP, TimerKind.SLO_WARN, TimerKind.FINAL)
MOST = 2  # messages on their way at a time
Move = tuple[str, object, int, int]
MOVES = st.lists(
    st.one_of(
        st.tuples(
            st.just("post"),
            st.sampled_from(["P0", "P1", "P2"]),
            st.integers(1, 6),
            st.integers(0, 40),
        ),
        st.tuples(st.just("claim"), st.integers(1, 4), st.just(0), st.just(0)),
        st.tuples(
            st.sampled_from(["sent", "again", "cancel", "stop", "go"]),
            st.integers(0, 20),
            st.integers(0, 30),
            st.just(0),
        ),
        st.tuples(st.just("wait"), st.integers(1, 40_000), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Plain:
    """What may go now, by looking at every message."""

    def __init__(self) -> None:
        self.all: dict[str, OutboxMessage] = {}
        self.stopped: set[str] = set()
        self.newest_next = False

    def expire(self, now: int) -> None:
        for one in list(self.all.values()):
            if one.state is MessageState.SENDING and (one.due_at_ms or 0) <= now:
                self.all[one.key] = lease_expired(one, now)

    def claim(self, now: int, limit: int) -> list[str]:
        self.expire(now)
        chosen: list[str] = []
        while len(chosen) < limit and (one := self.next(now)) is not None:
            self.all[one.key] = claimed(one, now)
            self.newest_next = not self.newest_next
            chosen.append(one.key)
        return chosen

    def next(self, now: int) -> OutboxMessage | None:
        """Of the worst severity: the first, or the first to the addressee of the newest page."""
        busy = {_way(one) for one in self.all.values() if one.state is MessageState.SENDING}
        able = [
            one
            for one in self.all.values()
            if one.state is MessageState.PENDING and one.next_at_ms <= now
            if _way(one) not in busy and one.key not in self.stopped
        ]
        able.sort(key=lambda one: (one.notification.severity, one.id))
        if not able or len(busy) >= (2 * MOST if able[0].is_urgent else MOST):
            return None
        worst = [one for one in able if one.notification.severity == able[0].notification.severity]
        newest = max(worst, key=lambda one: (one.is_page, one.notification.at_ms, -one.id))
        same = [one for one in worst if _way(one) == _way(newest)]
        return same[0] if self.newest_next else worst[0]


def _way(one: OutboxMessage) -> tuple[int, object]:
    return one.notification.incident, one.addressee


@settings(max_examples=400, deadline=None)
@given(MOVES)
def test_the_same_messages_go_as_by_a_search_of_all(
    moves: list[Move],
) -> None:
    plain, outbox, now = Plain(), Outbox(lambda *_: None, MOST), 1_000

    def goes_at(one: OutboxMessage) -> int | None:
        return None if one.key in plain.stopped else 0

    for verb, word, number, delay in moves:
        keys = list(plain.all)
        key = keys[word % len(keys)] if isinstance(word, int) and keys else ""
        if verb == "post":
            name = str(len(keys))
            reason = Reason.ACKED if delay % 4 == 0 else Reason.OPENED
            sent = notification(
                key=name, incident=number, severity=word, receiver="a", reason=reason, at_ms=now
            )
            plain.all[name] = OutboxMessage(len(keys), sent, 1, next_at_ms=now + delay)
            outbox.put(plain.all[name])
        elif verb == "wait":
            assert isinstance(word, int)
            now += word
        elif verb == "claim":
            assert isinstance(word, int)
            expected = plain.claim(now, word)
            assert [one.key for one in outbox.claim(now, word, goes_at)] == expected
        elif verb == "stop" and key:
            plain.stopped.add(key)
        elif verb == "go":
            plain.stopped.clear()
            outbox.resume()
        elif key:
            plain.expire(now)
            outbox.next_due_ms(now, goes_at)
            _settle(plain, outbox, key, verb, now + 1_000 * number)
        due = outbox.next_due_ms(now, goes_at)
        able = Plain()
        able.all, able.stopped = dict(plain.all), plain.stopped
        assert (due is not None and due <= now) == bool(able.claim(now, 1))


def test_a_message_that_was_due_goes_though_the_clock_went_back_a_little() -> None:
    outbox = Outbox(lambda *_: None)
    outbox.put(OutboxMessage(1, notification(key="a"), 1, next_at_ms=1_000))
    assert outbox.next_due_ms(1_000, lambda _: 0) == 1_000
    assert outbox.claim(960, 1, lambda _: 0) == []
    assert outbox.next_due_ms(960, lambda _: 0) == 1_000
    assert [one.key for one in outbox.claim(1_000, 1, lambda _: 0)] == ["a"]


def test_the_newest_page_does_not_overtake_what_its_reader_is_to_hear_before() -> None:
    outbox = Outbox(lambda *_: None)
    for number in range(4):
        sent = notification(key=f"storm {number}", incident=number, at_ms=1)
        outbox.put(OutboxMessage(number, sent, 1))
    acked = notification(key="acked", incident=9, reason=Reason.ACKED, at_ms=2)
    outbox.put(OutboxMessage(4, acked, 1))
    outbox.put(OutboxMessage(5, notification(key="page", incident=9, at_ms=3), 1))
    first = [one.key for one in outbox.claim(3, 3, lambda _: 0)]
    assert first == ["storm 0", "acked", "storm 1"]


def test_a_page_does_not_wait_for_what_is_over_at_the_same_moment() -> None:
    outbox = Outbox(lambda *_: None)
    for number in range(9):
        sent = notification(key=f"end {number}", incident=number, reason=Reason.RESOLVED, at_ms=1)
        outbox.put(OutboxMessage(number, sent, 1))
    outbox.put(OutboxMessage(9, notification(key="page", incident=9, at_ms=1), 1))
    assert [one.key for one in outbox.claim(1, 2, lambda _: 0)] == ["end 0", "page"]


def test_what_is_new_goes_soon_though_the_clock_was_set_back() -> None:
    outbox = Outbox(lambda *_: None)
    for number, at_ms in enumerate([9_000] * 9 + [1_000]):
        sent = notification(key=str(number), incident=number, at_ms=at_ms)
        outbox.put(OutboxMessage(number, sent, 1))
    assert [one.key for one in outbox.claim(9_000, 3, lambda _: 0)] == ["0", "9", "1"]


def test_receivers_have_turns_of_their_own() -> None:
    """Else one of two could get the newest only, and the other the oldest only."""
    outbox = Outbox(lambda *_: None)
    for number in range(12):
        receiver = "ab"[number % 2]
        sent = notification(key=str(number), incident=number, receiver=receiver, at_ms=number)
        outbox.put(OutboxMessage(number, sent, 1))
    chosen = {one.key for one in outbox.claim(20, 8, lambda _: 0)}
    assert {"0", "1", "10", "11"} <= chosen


def test_a_message_that_was_withdrawn_behind_another_stays_behind() -> None:
    outbox = Outbox(lambda *_: None)
    outbox.put(OutboxMessage(0, notification(key="a", receiver="r"), 1, next_at_ms=0))
    outbox.put(OutboxMessage(1, notification(key="b", receiver="r"), 1, next_at_ms=0))
    (sending,) = outbox.claim(0, 4, lambda _: 0)
    outbox.put(replace(outbox.waiting()[1], state=MessageState.CANCELLED))
    outbox.put(replace(sending, state=MessageState.SENT, lease_until_ms=None))
    assert outbox.next_due_ms(0, lambda _: 0) is None


def _settle(plain: Plain, outbox: Outbox, key: str, verb: str, at_ms: int) -> None:
    one = plain.all[key]
    if verb == "cancel" and one.state is MessageState.PENDING:
        plain.all[key] = replace(one, state=MessageState.CANCELLED)
    elif verb == "sent" and one.state is MessageState.SENDING:
        plain.all[key] = replace(one, state=MessageState.SENT, lease_until_ms=None)
    elif verb == "again" and one.state is MessageState.SENDING:
        state = MessageState.PENDING
        plain.all[key] = replace(one, state=state, next_at_ms=at_ms, lease_until_ms=None)
    else:
        return
    outbox.put(plain.all[key])


TIMERS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(1, 4), st.sampled_from(KINDS), st.integers(0, 100)),
        st.tuples(
            st.sampled_from(["hold", "release", "forget", "remove"]),
            st.integers(1, 4),
            st.sampled_from(KINDS),
            st.just(0),
        ),
        st.tuples(st.just("look"), st.integers(0, 120), st.just(KINDS[0]), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(TIMERS)
def test_the_same_timers_are_due_as_by_a_search_of_all(
    moves: list[tuple[str, int, TimerKind, int]],
) -> None:
    plain: dict[int, dict[TimerKind, Timer]] = {}
    held: set[int] = set()
    schedule = TimerSchedule()
    for verb, number, kind, at_ms in moves:
        timers = dict(plain.get(number, {}))
        match verb:
            case "set":
                plain[number] = {**timers, kind: Timer(kind, at_ms, 1)}
                schedule.replace(number, plain[number])
            case "remove":
                plain[number] = {one: timer for one, timer in timers.items() if one is not kind}
                schedule.replace(number, plain[number])
            case "hold":
                held.add(number)
                schedule.hold([number])
            case "release":
                schedule.release([number])
                held.discard(number)
            case "forget":
                plain.pop(number, None)
                held.discard(number)
                schedule.forget(number)
            case "look":
                assert schedule.due(number) == _due(plain, held, number)
        every = _due(plain, held, 10**9)
        assert schedule.next_due_ms() == (every[0][1].due_at_ms if every else None)


def _due(
    plain: dict[int, dict[TimerKind, Timer]], held: set[int], now: int
) -> list[tuple[int, Timer]]:
    found = [
        (number, timer)
        for number, timers in plain.items()
        for timer in timers.values()
        if number not in held and timer.due_at_ms <= now
    ]
    return sorted(found, key=lambda pair: (pair[1].due_at_ms, pair[0]))
