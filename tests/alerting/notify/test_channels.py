"""What holds for every channel, each by its contract (`support/contracts`): it takes every message,
nothing in it is more than text, it never raises, and never tells a secret."""

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from support.broken_server import Behaviour, broken_server, drip, garbage, reset, silence
from support.channel_contract import (
    all_contracts,
    at,
    configurable_kinds,
    secret_echo,
    some_links,
)
from support.channel_messages import channel_messages
from support.hostile_texts import HOSTILE_TEXTS, between, hostile_notification, skeleton
from support.mailbox import Mailbox
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.registry import CHANNELS
from tocsin_alerting.notify.rehearsal import rehearse

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

CONTRACTS = all_contracts()
HTTP = [kind for kind, contract in CONTRACTS.items() if contract.http]
SHORT = "500ms"
HOUR_MS = 3_600_000
BEHAVIOURS: dict[str, Behaviour] = {
    "reset": reset,
    "garbage": garbage,
    "silence": silence,
    "slow drip": drip(b"HTTP/1.1 200 OK\r\nX: ", b"y", pause_s=0.02, for_ever=True),
    "endless head": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, pause_s=0, for_ever=True),
    "half an answer": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", pause_s=0),
    "not compressed": drip(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n{}\n", pause_s=0
    ),
}


def test_every_kind_can_be_configured_and_has_a_contract() -> None:
    """A new channel needs a file in tests/support/contracts: see CONTRIBUTING.md, "A channel"."""
    assert set(CHANNELS) == configurable_kinds()
    assert set(CHANNELS) == set(CONTRACTS)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", CONTRACTS)
async def test_every_kind_of_message_is_taken(kind: str, language: str, tmp_path: Path) -> None:
    """By a double that refuses what the vendor's documents forbid."""
    contract, links = CONTRACTS[kind], some_links(tmp_path)
    failed: dict[str, Any] = {}
    async with contract.double() as double:
        channel = contract.build(at(double.port), language=language, links=links)
        for name, message in channel_messages():
            outcome = await channel.send(message, NEW_YEAR_MS)
            seen = contract.heard(double) if isinstance(outcome, Delivered) else ""
            number = "42" in seen or message.incident != 42
            if not number or message.severity not in seen:
                failed[name] = outcome, seen
            if contract.has_link and message.incident and links.url(message) not in seen:
                failed[f"{name}: no link"] = links.url(message), seen
            forget(double)
        await channel.close()
    assert failed == {}


@pytest.mark.parametrize("kind", CONTRACTS)
async def test_nothing_in_a_message_is_more_than_text(kind: str, tmp_path: Path) -> None:
    """Each text arrives as it is (or as a reader sees it), calls nobody, and leaves number,
    severity and link where they are."""
    contract, links = CONTRACTS[kind], some_links(tmp_path)
    failed: dict[str, Any] = {}
    async with contract.double() as double:
        channel = contract.build(at(double.port), links=links)
        for name, text in HOSTILE_TEXTS.items():
            message = hostile_notification(text, key=f"42/{name}")
            outcome = await channel.send(message, NEW_YEAR_MS)
            seen = contract.heard(double) if isinstance(outcome, Delivered) else ""
            link = links.url(message) if contract.has_link else ""
            kept = all(part in seen for part in ("42", "P0", link))
            called = list(contract.mentioned(double))
            if called or not kept or not arrived(text, seen, contract.lost):
                failed[name] = outcome, called, seen
            forget(double)
        await channel.close()
    assert failed == {}


def arrived(text: str, seen: str, lost: str) -> bool:
    """Whole, or from its beginning to where it was cut."""
    sent = skeleton(text, lost)
    if lost and not sent:  # nothing of it can be shown
        return True
    if any(skeleton(found, lost) == sent for found in between(seen)):
        return True
    return any(_is_beginning(skeleton(part, lost), sent) for part in seen.split("…")[:-1])


def _is_beginning(part: str, sent: str) -> bool:
    """Whether `part` ends with the first of `sent`, twenty characters or more."""
    start = part.find(sent[:20])
    return start >= 0 and sent.startswith(part[start:])


def forget(double: Any) -> None:
    """So that one message after the other is within the vendor's rate."""
    if isinstance(double, WebhookSink):
        double.requests.clear()
    if isinstance(double, Mailbox):
        double.messages.clear()


@pytest.mark.parametrize("kind", CONTRACTS)
async def test_a_rehearsal_shows_what_would_be_sent_and_sends_nothing(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contract, links = CONTRACTS[kind], some_links(tmp_path)
    connected: list[object] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)

    async with broken_server(count) as port:
        channel = contract.build(at(port), links=links)
        for name, message in channel_messages():
            shown, _ = await rehearse(channel, message, NEW_YEAR_MS)
            text = "\n".join(map(repr, shown))
            assert shown and all(one.to and one.text for one in shown), name
            assert "42" in text or message.incident != 42, name
            assert [secret for secret in contract.all_secrets if secret in text] == []
            assert set(re.findall(r"/links/([\w*-]+)", text)) <= {"***"}, name
        await channel.close()
    assert connected == []
    assert [one for one in caplog.records if one.name == "tocsin.page"] == []


def test_what_counts_as_arrived() -> None:
    assert arrived("<b>", "Qbegin <b> Qend", "")
    assert arrived("@all", "x Qbegin @\u200ball Qend", "")
    assert arrived("long " * 99, "Qbegin long long long long long lo… #42", "")
    assert not arrived("<b>", "Qbegin  Qend", "")
    assert not arrived("<b>", "Qbegin &lt;b&gt; Qend", "")
    assert not arrived("long " * 99, "Qbegin short and some more words… #42", "")


@pytest.mark.parametrize(
    "status", [200, 204, 301, 307, 400, 401, 403, 404, 410, 413, 429, 500, 503]
)
@pytest.mark.parametrize("kind", HTTP)
async def test_no_status_raises_or_tells_a_secret(
    kind: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    contract = CONTRACTS[kind]
    async with secret_echo(contract, status) as port:
        outcome, shown = await said(contract.build(at(port)), caplog)
    assert [secret for secret in contract.all_secrets if secret in shown] == []
    if status >= 300:
        assert not isinstance(outcome, Delivered)
    if status == 429 or status >= 500:
        assert isinstance(outcome, RetryAt)
    if status in (301, 307, 401, 403, 404):
        assert isinstance(outcome, Permanent)


async def said(channel: Channel, caplog: pytest.LogCaptureFixture) -> tuple[Outcome, str]:
    """What comes of a message, and everything that anybody could read of it."""
    caplog.set_level(logging.DEBUG)
    transcript: list[str] = []
    outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
    await channel.close()
    assert transcript
    assert isinstance(outcome, Delivered | RetryAt | Permanent)
    # The test's own server logs what it hears.
    logged = [one.getMessage() for one in caplog.records if not one.name.startswith("mail.")]
    return outcome, "\n".join([repr(channel), str(channel), repr(outcome), *transcript, *logged])


@pytest.mark.parametrize(
    ("retry_after", "least_ms"),
    [
        ("7", 7_000),
        ("86400", HOUR_MS),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30_000),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("kind", HTTP)
async def test_too_many_messages_wait_as_long_as_they_are_told_and_no_hour_longer(
    kind: str, retry_after: str, least_ms: int | None
) -> None:
    answer = Answer(429, {"Retry-After": retry_after}, b"slow down")
    async with WebhookSink(usual=answer) as sink:
        channel = CONTRACTS[kind].build(at(sink.port))
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, RetryAt)
    waits_ms = (outcome.not_before_ms or NEW_YEAR_MS) - NEW_YEAR_MS
    assert (least_ms or 0) <= waits_ms <= HOUR_MS


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("kind", HTTP)
async def test_one_that_misbehaves_is_tried_again(
    kind: str, behaviour: str, caplog: pytest.LogCaptureFixture
) -> None:
    contract = CONTRACTS[kind]
    async with broken_server(BEHAVIOURS[behaviour]) as port, asyncio.timeout(20):
        outcome, shown = await said(contract.build(at(port), timeout=SHORT), caplog)
    assert [secret for secret in contract.all_secrets if secret in shown] == []
    # what was taken in the head is taken, whatever the body is, where only the status counts
    assert isinstance(outcome, RetryAt | Delivered)
    assert isinstance(outcome, RetryAt) or behaviour in ("half an answer", "not compressed")


@pytest.mark.parametrize(
    ("kind", "behaviour"),
    [(kind, name) for kind, contract in CONTRACTS.items() for name in contract.behaviours],
)
async def test_a_server_of_another_protocol_that_misbehaves_is_no_delivery(
    kind: str, behaviour: str, caplog: pytest.LogCaptureFixture
) -> None:
    contract = CONTRACTS[kind]
    async with broken_server(contract.behaviours[behaviour]) as port, asyncio.timeout(20):
        outcome, shown = await said(contract.build(at(port)), caplog)
    assert [secret for secret in contract.all_secrets if secret in shown] == []
    assert not isinstance(outcome, Delivered)


@pytest.mark.parametrize("kind", HTTP)
async def test_a_redirect_is_not_followed(kind: str) -> None:
    async with WebhookSink() as elsewhere:
        answer = Answer(307, {"Location": f"{at(elsewhere.port)}/stolen"}, b"")
        async with WebhookSink(usual=answer) as sink:
            channel = CONTRACTS[kind].build(at(sink.port))
            outcome = await channel.send(notification(), NEW_YEAR_MS)
            await channel.close()
    assert isinstance(outcome, Permanent)
    assert elsewhere.requests == []


@pytest.mark.parametrize("kind", HTTP)
async def test_a_huge_answer_is_read_in_part(kind: str) -> None:
    """64 MiB of it would be told by 20 receivers at once."""

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 no\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent.append(65536)

    sent: list[int] = []
    async with WebhookSink(usual=endless) as sink, asyncio.timeout(20):
        channel = CONTRACTS[kind].build(at(sink.port))
        outcome = await channel.send(notification(), NEW_YEAR_MS)
        await channel.close()
    assert isinstance(outcome, Permanent)
    assert sum(sent) < 16 << 20
    assert len(outcome.error) < 1000


@pytest.mark.parametrize("kind", [kind for kind, one in CONTRACTS.items() if one.identity])
async def test_the_same_message_is_known_by_the_same_name(kind: str) -> None:
    contract = CONTRACTS[kind]
    assert contract.identity is not None
    async with contract.double() as double:
        channel = contract.build(at(double.port))
        for message in (notification(), notification(), notification(key="42/another")):
            assert isinstance(await channel.send(message, NEW_YEAR_MS), Delivered)
        first, again, another = contract.identity(double)
        await channel.close()
    assert first == again
    assert first != another


@pytest.mark.parametrize("kind", [*HTTP, "email"])
async def test_a_slow_one_is_cancelled_and_leaves_nothing(kind: str) -> None:
    before = asyncio.all_tasks()
    async with broken_server(silence) as port:
        channel = CONTRACTS[kind].build(at(port), timeout="30s")
        sending = asyncio.create_task(channel.send(notification(), NEW_YEAR_MS))
        await asyncio.sleep(0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(5):
            await channel.close()
    assert asyncio.all_tasks() == before
