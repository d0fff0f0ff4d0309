import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.api_client import api_client
from support.mailbox import Mailbox
from support.notifications import notification, resolved
from support.policies import config
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin import channels as channels_api
from tocsin_alerting.api.tocsin import receivers as receivers_api
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep, Recipient
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import (
    Delivered,
    Delivery,
    Outcome,
    Permanent,
    RetryAt,
)
from tocsin_alerting.incidents.rates import Rates, ReceiverRules, read_rates
from tocsin_alerting.notify.channel import Channel, ChannelDeps
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.registry import CHANNELS, own_rates
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.webhook.settings import WebhookSettings

Send = Callable[[Notification], Awaitable[Outcome]]


class Tray:
    """An outbox in which each message lies until it is claimed; outcomes are kept."""

    def __init__(self, *messages: Notification) -> None:
        self.waiting = [Delivery(one.key, one, 1) for one in messages]
        self.outcomes: list[tuple[str, int, Outcome]] = []

    async def claim(self, now_ms: int) -> list[Delivery]:
        taken, self.waiting = self.waiting, []
        return taken

    async def delivered(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None:
        self.outcomes.append((delivery.key, delivery.attempt, outcome))


class Scripted:
    """A channel that does what the test says."""

    send_resolved = True
    at_once = 4

    def __init__(self, name: str, send: Send) -> None:
        self.name, self._send, self.closed = name, send, False

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        return await self._send(notification)

    def begin(self) -> None: ...

    async def close(self) -> None:
        self.closed = True


async def _done(_: Notification) -> Outcome:
    return Delivered()


def _delivery_loop(tray: Tray, *channels: Channel) -> DeliveryLoop:
    return DeliveryLoop(tray, {one.name: one for one in channels}, lambda: 0)


def _to(receiver: str, key: str, **more: Any) -> Notification:
    return notification(receiver=receiver, key=key, **more)


async def test_a_channel_that_hangs_delays_no_other() -> None:
    never = asyncio.Event()

    async def hang(_: Notification) -> Outcome:
        await never.wait()
        return Delivered()

    hung = [_to("dead", f"d{n}") for n in range(50)]
    tray = Tray(*hung, _to("alive", "a"))
    delivery_loop = _delivery_loop(tray, Scripted("dead", hang), Scripted("alive", _done))
    assert await delivery_loop.collect() == 51
    async with asyncio.timeout(1):
        while not tray.outcomes:
            await asyncio.sleep(0)
    assert [key for key, _, _ in tray.outcomes] == ["a"] and delivery_loop.busy == 50
    await delivery_loop.close()
    assert len(tray.outcomes) == 1  # the rest goes out after the next start


async def test_the_worst_goes_first_and_few_go_at_once() -> None:
    order: list[str] = []
    going, most = 0, 0

    async def send(one: Notification) -> Outcome:
        nonlocal going, most
        going, most = going + 1, max(most, going + 1)
        order.append(one.severity)
        await asyncio.sleep(0)
        going -= 1
        return Delivered()

    several = [_to("ops", f"{n}", severity=f"P{4 - n % 5}") for n in range(40)]
    delivery_loop = _delivery_loop(Tray(*several), Scripted("ops", send))
    await delivery_loop.collect()
    await delivery_loop.idle()
    assert most == 2 * Scripted.at_once
    assert order[most:] == sorted(order[most:]) and order.count("P0") == 8


async def test_a_p0_goes_while_milder_ones_hang_on_the_same_channel() -> None:
    never, order = asyncio.Event(), list[str]()

    async def send(one: Notification) -> Outcome:
        order.append(one.severity)
        if one.severity != "P0":
            await never.wait()
        return Delivered()

    tray = Tray(*(_to("ops", f"{n}", severity="P2") for n in range(20)))
    delivery_loop = _delivery_loop(tray, Scripted("ops", send))
    await delivery_loop.collect()
    await asyncio.sleep(0)
    tray.waiting = [Delivery("p0", _to("ops", "p0", severity="P0"), 1)]
    await delivery_loop.collect()
    await asyncio.sleep(0)
    assert order == ["P2"] * Scripted.at_once + ["P0"]
    await delivery_loop.close()


async def test_what_is_handed_out_twice_is_sent_once_and_reported_as_the_last() -> None:
    sent: list[str] = []
    go = asyncio.Event()

    async def send(one: Notification) -> Outcome:
        sent.append(one.key)
        await go.wait()
        return RetryAt("later")

    tray = Tray(_to("ops", "k"))
    delivery_loop = _delivery_loop(tray, Scripted("ops", send))
    await delivery_loop.collect()
    tray.waiting = [Delivery("k", _to("ops", "k"), 2)]
    await delivery_loop.collect()
    go.set()
    await delivery_loop.idle()
    assert sent == ["k"] and tray.outcomes == [("k", 2, RetryAt("later"))]
    assert delivery_loop.busy == 0 and delivery_loop.counts == {("ops", "RetryAt"): 1}


async def test_a_receiver_that_is_gone_and_one_that_wants_no_resolved() -> None:
    quiet = Scripted("quiet", _done)
    quiet.send_resolved = False
    tray = Tray(_to("gone", "1"), resolved(receiver="quiet", key="2"))
    delivery_loop = _delivery_loop(tray, quiet)
    await delivery_loop.collect()
    await delivery_loop.idle()
    outcomes = {key: outcome for key, _, outcome in tray.outcomes}
    assert outcomes["1"] == Permanent("receiver gone is no longer configured")
    assert outcomes["2"] == Delivered(detail="send_resolved is off for this receiver", unsent=True)
    assert delivery_loop.counts == {("gone", "Permanent"): 1}


@pytest.mark.parametrize(("attempt", "refused"), [(1, False), (3, False), (4, True), (9, True)])
async def test_an_answer_that_nobody_knows_counts_as_refused_after_three_retries(
    attempt: int, refused: bool
) -> None:
    async def unknown(_: Notification) -> Outcome:
        return RetryAt("errcode 99999: ", retries=3)

    tray, message = Tray(), _to("robot", "a")
    tray.waiting = [Delivery(message.key, message, attempt)]
    loop = _delivery_loop(tray, Scripted("robot", unknown))
    await loop.collect()
    await loop.idle()
    ((_, _, outcome),) = tray.outcomes
    assert isinstance(outcome, Permanent if refused else RetryAt)
    assert loop.counts["robot", "Permanent"] == refused


async def test_a_fault_in_a_channel_is_told_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: Notification) -> Outcome:
        raise RuntimeError("a secret may stand here")

    tray = Tray(_to("bad", "1"), _to("good", "2"))
    delivery_loop = _delivery_loop(tray, Scripted("bad", broken), Scripted("good", _done))
    await delivery_loop.collect()
    await delivery_loop.idle()
    outcomes = {key: outcome for key, _, outcome in tray.outcomes}
    assert outcomes["1"] == RetryAt("internal error in the channel: RuntimeError")
    assert outcomes["2"] == Delivered()
    assert "a secret" not in caplog.text and "channel bad failed: RuntimeError" in caplog.text


ENDINGS: list[tuple[Outcome, str, str]] = [
    (Delivered("r"), "INFO", "paged ops (opened): #42 P0 "),
    (RetryAt("503"), "WARNING", "notification failed, retrying: ops: #42 P0 "),
    (Permanent("550 no such user"), "ERROR", "notification failed, refused: ops: #42 P0 "),
]


@pytest.mark.parametrize(("outcome", "level", "text"), ENDINGS)
async def test_each_attempt_is_a_line_with_whom_and_how_it_ended(
    caplog: pytest.LogCaptureFixture, outcome: Outcome, level: str, text: str
) -> None:
    async def answer(_: Notification) -> Outcome:
        return outcome

    delivery_loop = _delivery_loop(Tray(_to("ops", "1")), Scripted("ops", answer))
    with caplog.at_level(logging.INFO):
        await delivery_loop.collect()
        await delivery_loop.idle()
    (line,) = (one for one in caplog.records if one.name == "tocsin.delivery")
    assert line.levelname == level and line.getMessage().startswith(text)
    fields = vars(line)
    assert (fields["incident"], fields["receiver"], fields["attempt"]) == (42, "ops", 1)
    assert fields["took_ms"] >= 0 and fields["reason"] == "opened"
    error = getattr(outcome, "error", "took 0.0 s")
    assert line.getMessage().endswith(error)


async def test_an_answer_is_no_page_and_what_nobody_wants_is_no_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def done(_: Notification) -> Outcome:
        return Delivered()

    quiet = Scripted("quiet", done)
    quiet.send_resolved = False
    over = resolved(receiver="quiet", key="2")
    tray = Tray(notification(receiver="ops", contact="li", reason=Reason.ACKED), over)
    with caplog.at_level(logging.INFO):
        delivery_loop = _delivery_loop(tray, Scripted("ops", done), quiet)
        await delivery_loop.collect()
        await delivery_loop.idle()
    (line,) = (one for one in caplog.records if one.name == "tocsin.delivery")
    assert line.getMessage().startswith("notified li by ops (acked): #42 ")


async def test_closing_closes_the_channels() -> None:
    channel = Scripted("ops", _done)
    delivery_loop = _delivery_loop(Tray(), channel)
    await delivery_loop.close()
    assert channel.closed


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.ms = 1_767_225_600_000

    def __call__(self) -> int:
        return self.ms


@asynccontextmanager
async def _pager(
    sink: WebhookSink, box: Mailbox, clock: Clock
) -> AsyncIterator[tuple[Dispatcher, DeliveryLoop]]:
    deps = ChannelDeps(vault=Vault({}, lambda path: ""))
    mail = {"type": "email", "from": "a@example.com", "to": ["b@example.com"], "tls": "none"}
    settings: dict[str, WebhookSettings | EmailSettings] = {
        "hook": WebhookSettings.model_validate({"type": "webhook", "url": sink.url}),
        "mail": EmailSettings.model_validate({**mail, "smarthost": box.smarthost}),
    }
    both = (Recipient("hook"), Recipient("mail"))
    dispatcher = Dispatcher(
        config(
            policies={
                "P0": EscalationPolicy("P0", (EscalationStep(both, 900_000), EscalationStep(both)))
            }
        ),
        MemoryJournal(),
        lambda: 0.0,
    )
    await dispatcher.start(clock())
    channels = {name: CHANNELS[one.type](name, one, deps) for name, one in settings.items()}
    delivery_loop = DeliveryLoop(dispatcher, channels, clock)
    yield dispatcher, delivery_loop
    await delivery_loop.close()
    await dispatcher.close(clock())


async def test_from_an_alert_to_a_mailbox_and_a_webhook_once_each_and_in_order() -> None:
    clock, down = Clock(), alert()
    async with (
        WebhookSink(Answer(503, {"Retry-After": "7"}), Answer(500)) as sink,
        Mailbox() as box,
        _pager(sink, box, clock) as (dispatcher, delivery_loop),
    ):

        async def run() -> None:
            while await delivery_loop.collect():
                await delivery_loop.idle()

        await dispatcher.handle([fires(down, clock())], clock())
        await run()
        assert (len(sink.requests), len(box.messages)) == (1, 1)
        clock.ms += 6_999
        await run()
        assert len(sink.requests) == 1  # Retry-After holds
        clock.ms += 1
        await run()
        assert len(sink.requests) == 2
        clock.ms += 10_000
        await run()
        await dispatcher.handle([clears(down, clock())], clock())
        await run()
        bodies = [request.json() for request in sink.requests]
        assert [one["status"] for one in bodies] == ["firing", "firing", "firing", "resolved"]
        assert len({one["tocsin"]["key"] for one in bodies}) == 2
        subjects = [letter.message["Subject"] for letter in box.messages]
        assert [one.split("]")[0] for one in subjects] == ["[P0", "[P0 resolved"]
        assert len({letter.message["References"] for letter in box.messages}) == 1


RATES = sorted({own_rates(kind) or read_rates(["20/min"]) for kind in CHANNELS}, key=str)


@asynccontextmanager
async def _agent(
    journal: Path, url: str, clock: Clock
) -> AsyncIterator[tuple[Dispatcher, DeliveryLoop, Any]]:
    """What is left of an earlier run, with one webhook; and a client of its API."""
    dispatcher = Dispatcher(
        config(
            policies={"P0": EscalationPolicy("P0", (EscalationStep((Recipient("hook"),)),))},
            receiver_rules={"hook": ReceiverRules()},
        ),
        SqliteJournal(journal),
        lambda: 0.0,
    )
    await dispatcher.start(clock())
    section = WebhookSettings.model_validate({"type": "webhook", "url": url})
    channels = {"hook": CHANNELS["webhook"]("hook", section, ChannelDeps(Vault({}, str)))}
    loop = DeliveryLoop(dispatcher, channels, clock, gone=dispatcher.channels.gone)
    told = receivers_api.routes(dispatcher, {"hook": "webhook"}, loop.gone_since)
    tests = channels_api.routes(channels, new_guard(), clock, dispatcher=dispatcher)
    async with api_client([*told, *tests], "127.0.0.1") as api:
        yield dispatcher, loop, api
    await loop.close()
    await dispatcher.close(clock())


async def test_who_is_gone_is_asked_again_in_no_run_until_it_moves_or_takes_a_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, journal, gone = Clock(), tmp_path / "incidents.db", Answer(410, body=b"bye")

    async def page(agent: tuple[Dispatcher, DeliveryLoop, Any], target: str) -> str | None:
        dispatcher, loop, api = agent
        clock.ms += 60_000
        await dispatcher.handle([fires(alert(target=target), clock())], clock())
        while await loop.collect():
            await loop.idle()
        listed = (await api.get("/api/v1/receivers")).json()["data"]["receivers"]
        since: str | None = listed[0]["gone_since"]
        return since

    async with WebhookSink(gone, gone) as sink:
        async with _agent(journal, sink.url, clock) as first:
            since = await page(first, "a")
            assert since == "2026-01-01T00:01:00.000Z"
            assert await page(first, "b") == since and len(sink.requests) == 1
        async with _agent(journal, sink.url, clock) as again:
            assert await page(again, "c") == since and len(sink.requests) == 1
            (line,) = await again[0].records.attempts(clock() - 1)
            assert "alertctl receivers test hook arrives" in line.data["error"]
        async with _agent(journal, f"{sink.url}/moved", clock) as moved:
            tested = await moved[2].post("/api/v1/receivers/hook/test", json={})
            assert not tested.json()["data"]["delivered"] and len(sink.requests) == 2
            assert await page(moved, "d") not in (None, since) and len(sink.requests) == 2
            tested = await moved[2].post("/api/v1/receivers/hook/test", json={})
            assert tested.json()["data"]["delivered"]
        async with _agent(journal, f"{sink.url}/moved", clock) as well:
            assert await page(well, "e") is None and len(sink.requests) == 4
    said = [one.getMessage() for one in caplog.records if "receiver hook" in one.getMessage()]
    assert [line.split(":")[0] for line in said] == ["receiver hook disabled"] * 2 + [
        "receiver hook enabled again"
    ]
    assert "moved" not in caplog.text  # where it is may be its secret


@pytest.mark.parametrize("rates", RATES, ids=str)
async def test_a_p0_never_waits_behind_p3_on_any_channel(rates: Rates) -> None:
    """A thousand P3 are queued, all that went hang, and the rate of the service is used up."""
    never, sent = asyncio.Event(), list[tuple[str, int]]()

    async def send(one: Notification) -> Outcome:
        sent.append((one.severity, one.incident))
        if one.severity == "P3":
            await never.wait()
        return Delivered()

    steps = (EscalationStep((Recipient(receiver="ops"),)),)
    policies = {name: EscalationPolicy(name, steps) for name in ("P0", "P3")}
    rules = {"ops": ReceiverRules(rates)}
    settings = config(policies=policies, receiver_rules=rules, storm=None)
    dispatcher = Dispatcher(settings, MemoryJournal(), lambda: 0.0)
    now_ms = 1_000_000
    await dispatcher.start(now_ms)
    await dispatcher.handle([fires(alert(f"Disk{n}", "P3")) for n in range(1000)], now_ms)
    channel = Scripted("ops", send)
    channel.at_once = 1
    delivery_loop = DeliveryLoop(dispatcher, {"ops": channel}, lambda: now_ms)
    while await delivery_loop.collect():
        await asyncio.sleep(0)
    milder = [severity for severity, _ in sent]
    await dispatcher.handle([fires(alert("EngineDown", "P0"))], now_ms)
    await delivery_loop.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert set(milder) == {"P3"} and sent[len(milder) :] == [("P0", 1001)]
    await delivery_loop.close()


async def test_what_is_on_its_way_ends_by_the_channel_by_which_it_began() -> None:
    """Then it is closed; what waits goes by the new one, or is refused where there is none."""
    may_end, by = asyncio.Event(), list[str]()

    async def slowly(one: Notification) -> Outcome:
        by.append(f"old {one.key}")
        await may_end.wait()
        return Delivered()

    async def at_once(one: Notification) -> Outcome:
        by.append(f"new {one.key}")
        return Delivered()

    old, new, gone = Scripted("ops", slowly), Scripted("ops", at_once), Scripted("gone", slowly)
    many = [_to("ops", f"{n}", severity="P3") for n in range(Scripted.at_once + 1)]
    lost = [_to("gone", f"g{n}", severity="P3") for n in range(Scripted.at_once + 1)]
    tray = Tray(*many, *lost)
    delivery_loop = _delivery_loop(tray, old, gone)
    await delivery_loop.collect()
    await asyncio.sleep(0)
    delivery_loop.replace_channels({"ops": new})
    await asyncio.sleep(0)
    assert not old.closed and not gone.closed
    may_end.set()
    await delivery_loop.idle()
    assert by[-1] == f"new {Scripted.at_once}"
    outcomes = {key: outcome for key, _, outcome in tray.outcomes}
    refused = outcomes[f"g{Scripted.at_once}"]
    assert isinstance(refused, Permanent) and "no longer configured" in refused.error
    assert all(isinstance(outcomes[one.key], Delivered) for one in (*many, *lost[:-1]))
    async with asyncio.timeout(5):
        while not (old.closed and gone.closed):
            await asyncio.sleep(0)
    assert not new.closed
    await delivery_loop.close()
