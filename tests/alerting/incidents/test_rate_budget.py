"""Budgets against a plain list of all that was sent, and the sender with its clock."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.notifications import notification
from support.policies import MINUTE, SECOND, config, to
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.outbox import Outbox
from tocsin_alerting.incidents.outbox_message import Delivered, MessageState, OutboxMessage
from tocsin_alerting.incidents.rate_budget import RateBudgets, SentBefore
from tocsin_alerting.incidents.rates import Rate, ReceiverRules, read_rate, read_rates
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import Alert

TWENTY = read_rates(["20/min"])


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20/min", Rate(20, MINUTE)),
        ("1/1m", Rate(1, MINUTE)),
        ("5/15m", Rate(5, 15 * MINUTE)),
        ("100/h", Rate(100, 60 * MINUTE)),
        ("5/s", Rate(5, SECOND)),
        ("3 / day", Rate(3, 1440 * MINUTE)),
    ],
)
def test_a_rate_is_read_as_people_write_it(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate
    assert read_rate(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "20", "0/min", "20/0s", "20/fortnight", "-1/min", "9/2d", 20])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"rate|at most"):
        read_rate(text)


@pytest.mark.parametrize("count", range(1, 40))
def test_a_part_is_kept_for_p1_and_the_last_place_for_p0(count: int) -> None:
    rate = Rate(count, MINUTE)
    p0, p1, milder = rate.share("P0"), rate.share("P1"), rate.share("P2")
    assert 1 <= milder <= p1 < p0 <= max(2, count)
    assert rate.share("") == milder and milder >= count // 2
    assert count < 4 or milder < p1


SENDS = st.lists(
    st.tuples(
        st.sampled_from(["P0", "P1", "P2", "P3"]),
        st.sampled_from(["", "li", "wang"]),
        st.integers(0, 20_000),
    ),
    max_size=60,
)
RATES = st.lists(st.sampled_from(["1/10s", "3/30s", "5/1m", "8/2m"]), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(SENDS, RATES, RATES)
def test_no_window_ever_holds_more_than_its_rate(
    sends: list[tuple[str, str, int]], own: list[str], each: list[str]
) -> None:
    by_way = {Addressee("r", who): read_rates(each) for who in ("li", "wang")}
    budgets = RateBudgets({"r": read_rates(own)}, by_way)
    limits = {"": read_rates(own), "li": read_rates(each), "wang": read_rates(each)}
    went: list[tuple[int, str, str]] = []
    now = 1_000_000
    for number, (severity, who, pause) in enumerate(sends):
        now += pause
        sent = notification(key=str(number), receiver="r", contact=who, severity=severity)
        message = OutboxMessage(number, sent, 1)
        until = budgets.waits(message, now)
        expected = _allowed(went, limits, severity, who, now)
        assert (until is None) == expected
        if until is not None:
            assert until > now and not _allowed(went, limits, severity, who, until - 1)
            assert _allowed(went, limits, severity, who, until)
            continue
        budgets.take(message, now)
        went.append((now, who, severity))


def _allowed(
    went: list[tuple[int, str, str]],
    limits: dict[str, tuple[Rate, ...]],
    severity: str,
    who: str,
    now: int,
) -> bool:
    """By counting all that ever went, to the receiver and to the contact."""
    for scope in {"", who}:
        for rate in limits[scope]:
            times = [at for at, to_whom, _ in went if scope in ("", to_whom)]
            if sum(at > now - rate.window_ms for at in times) >= rate.share(severity):
                return False
    return True


def test_what_the_history_tells_counts_and_a_digest_counts_once() -> None:
    budgets = RateBudgets({"r": read_rates(["4/min"])}, {})
    item = SentBefore(1_000, Addressee("r"), in_digest=True)
    budgets.load([item, item, SentBefore(2_000, Addressee("r", "li"))])
    page = OutboxMessage(1, notification(receiver="r", severity="P3"), 1)
    assert budgets.waits(page, 3_000) == 61_000
    p0 = OutboxMessage(2, notification(key="b", receiver="r", severity="P0"), 1)
    assert budgets.waits(p0, 3_000) is None
    budgets.shift(10_000)
    assert budgets.free_at_ms(page) == 71_000 and budgets.delayed[page.key] == 71_000


def test_what_this_run_counted_is_not_counted_again_by_the_history() -> None:
    budgets = RateBudgets({"r": read_rates(["4/min"])}, {})
    message = OutboxMessage(1, notification(receiver="r", severity="P3"), 1)
    budgets.take(message, 5_000)
    budgets.load([SentBefore(5_000, Addressee("r")), SentBefore(5_001, Addressee("r"))])
    assert budgets.waits(replace(message, id=2), 5_002) is None


def test_a_p0_goes_at_once_before_a_thousand_p3_whose_budget_is_empty() -> None:
    outbox = Outbox(lambda *_: None, budgets=RateBudgets({"r": TWENTY}, {}))
    for number in range(1000):
        sent = notification(key=f"{number}", incident=number, receiver="r", severity="P3", at_ms=1)
        outbox.put(OutboxMessage(number, sent, 1))
    first = outbox.claim(1_000, 1000, lambda _: 0)
    assert len(first) == 15
    for one in first:
        outbox.put(replace(one, state=MessageState.SENT, lease_until_ms=None))
    assert outbox.next_due_ms(1_000, lambda _: 0) == 61_000
    for number, severity in ((2000, "P1"), (2001, "P0"), (2002, "P2")):
        sent = notification(key=severity, incident=number, receiver="r", severity=severity)
        outbox.put(OutboxMessage(number, sent, 1))
    assert [one.key for one in outbox.claim(2_000, 9, lambda _: 0)] == ["P0", "P1"]


def test_who_waits_longest_is_not_starved_while_pages_come() -> None:
    outbox = Outbox(lambda *_: None, budgets=RateBudgets({"r": read_rates(["4/10s"])}, {}))
    gone: list[str] = []
    for number in range(40):
        sent = notification(key=f"{number}", incident=number, receiver="r", severity="P3")
        outbox.put(OutboxMessage(number, sent, 1))
    now = 1_000
    while len(gone) < 40:
        for one in outbox.claim(now, 64, lambda _: 0):
            gone.append(one.key)
            outbox.put(replace(one, state=MessageState.SENT, lease_until_ms=None))
        due = outbox.next_due_ms(now, lambda _: 0)
        assert due is not None or len(gone) == 40
        now = max(now, due or now)
    assert set(gone) == {str(number) for number in range(40)}
    assert now == 1_000 + 19 * 10_000


def _settings(**rules: ReceiverRules) -> IncidentConfig:
    steps = (EscalationStep(to("robot")),)
    policies = {name: EscalationPolicy(name, steps) for name in ("P0", "P3")}
    return config(policies=policies, receiver_rules=rules, storm=None)


def _alert(number: int, severity: str = "P3") -> Alert:
    return alert(f"Disk{number}", severity)


async def test_what_waits_for_its_rate_collapses_to_the_newest_truth() -> None:
    floor = await Floor(_settings(robot=ReceiverRules(read_rates(["4/min"])))).open()
    for number in range(6):
        await floor.hear(fires(_alert(number)))
    assert len(floor.arrived) == 2
    await floor.hear(clears(_alert(4)))
    await floor.advance(5 * MINUTE)
    by_incident: dict[int, list[str]] = {}
    for _, one in floor.arrived:
        by_incident.setdefault(one.incident, []).append(one.reason.value)
    assert by_incident.pop(5) == [Reason.FIRED_AND_RESOLVED.value]
    assert by_incident == {n: ["opened"] for n in (1, 2, 3, 4, 6)}
    noted = [e for e in (await floor.dispatcher.timeline(6)).history if e.event == "rate_wait"]
    assert [(e.data["receiver"], e.data["until_ms"] - e.at_ms) for e in noted] == [
        ("robot", MINUTE)
    ]


async def test_a_restart_forgets_no_budget() -> None:
    floor = await Floor(_settings(robot=ReceiverRules(read_rates(["4/min"])))).open()
    for number in range(4):
        await floor.hear(fires(_alert(number)))
    await floor.restart(down_ms=10 * SECOND)
    await floor.reconcile(*(fires(_alert(number)) for number in range(4)))
    await floor.deliver()
    assert len(floor.arrived) == 2
    await floor.advance(60 * SECOND)
    assert sorted(at for at, _ in floor.arrived) == [0, 0, MINUTE, MINUTE]


@pytest.mark.parametrize("acked", [True, False])
async def test_what_waited_for_its_rate_before_a_restart_is_told_when_it_is_over(
    acked: bool,
) -> None:
    floor = await Floor(_settings(robot=ReceiverRules(read_rates(["4/min"])))).open()
    for number in range(4):
        await floor.hear(fires(_alert(number)))
    if acked:
        await floor.act(Verb.ACK, 4)
    await floor.restart(down_ms=10 * SECOND)
    await floor.hear(clears(_alert(3)))
    await floor.advance(2 * MINUTE)
    told = [one.reason for _, one in floor.arrived if one.incident == 4]
    assert told == [Reason.FIRED_AND_RESOLVED]


async def test_what_was_not_sent_at_all_takes_no_place() -> None:
    floor = await Floor(_settings(robot=ReceiverRules(read_rates(["4/min"])))).open()
    floor.answers["robot"] = lambda one: Delivered(
        detail="send_resolved is off", unsent=one.reason is Reason.RESOLVED
    )
    await floor.hear(fires(_alert(1)))
    await floor.hear(clears(_alert(1)))
    await floor.hear(fires(_alert(2)))
    assert [(at, one.incident) for at, one in floor.arrived] == [(0, 1), (0, 1), (0, 2)]


async def test_while_a_receiver_is_over_its_rate_only_the_last_state_of_an_incident_waits() -> None:
    floor = await Floor(_settings(robot=ReceiverRules(read_rates(["4/min"])))).open()
    await floor.hear(fires(_alert(1)))
    await floor.hear(fires(_alert(2)))
    await floor.act(Verb.ACK, 1)
    await floor.hear(clears(_alert(1)))
    await floor.advance(2 * MINUTE)
    assert [one.reason.value for _, one in floor.arrived if one.incident == 1] == [
        "opened",
        "resolved",
    ]
