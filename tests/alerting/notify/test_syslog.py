"""Syslog as the real rsyslog reads it, and as the RFCs count it."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from support.agent_process import free_port
from support.broken_server import broken_server, reset
from support.contracts.syslog import RFC5424
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from support.rsyslog import running_rsyslog
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.syslog import Syslog, SyslogSettings, rfc5424_message

HOSTILE = [
    'a" b="c',
    '] [other@1 x="y"]',
    "back\\slash\\",
    "two\r\nlines\n<0>1 - - - - - forged",
    "\x00\x07\x1b[31mred\x1b[0m",
    "\u202eright to left\u2066",
    "é" * 5000,
    "👩‍👩‍👧‍👦" * 400,
    "a\udcffb",
    "\ufeffbom",
    "",
]


def _settings(**settings: Any) -> SyslogSettings:
    return SyslogSettings.model_validate({"type": "syslog", "hostname": "gpu-1", **settings})


async def _sent(sent: Notification | None = None, **settings: Any) -> Outcome:
    channel = Syslog("siem", _settings(**settings), ChannelDeps(vault=Vault({}, lambda path: "")))
    return await channel.send(sent or notification(), NEW_YEAR_MS + 2_500)


def _labelled(value: str) -> Notification:
    labels = {**ENGINE_DOWN.labels, "instance": value}
    alert = replace(ENGINE_DOWN, labels=labels, annotations={"summary": f"It is {value}!"})
    return notification(alerts=(alert,), title=f"EngineDown {value}", actor=value)


async def test_rsyslog_reads_what_was_sent_by_udp_and_tcp(tmp_path: Path) -> None:
    with running_rsyslog(tmp_path) as server:
        udp = await _sent(address=f"udp://127.0.0.1:{server.udp}", facility="local3")
        server.messages(1)
        tcp = await _sent(resolved(), address=f"tcp://127.0.0.1:{server.tcp}")
        server.messages(2)
        lines = await _sent(address=f"tcp://127.0.0.1:{server.tcp}", framing="newline")
        first, second, third = server.messages(3)
    assert isinstance(udp, Delivered) and "not confirmed" in udp.detail
    assert isinstance(tcp, Delivered) and isinstance(lines, Delivered)
    assert (first["pri"], second["pri"], third["pri"]) == ("153", "30", "25")
    assert first["hostname"] == "gpu-1" and first["app-name"] == "tocsin"
    assert first["timestamp"].startswith("2026-01-01T00:00:02.5")
    assert first["msgid"] == "opened" and second["msgid"] == "resolved"
    assert first["structured-data"] == (
        '[tocsin@32473 incident="42" severity="P0" status="firing" state="TRIGGERED"'
        ' title="InferenceEngineDown 127.0.0.1:8000" alertname="InferenceEngineDown"'
        ' instance="gpu-1" actor=""]'
    )
    assert "The engine at 127.0.0.1:8000 does not answer" in first["msg"] and "#42" in first["msg"]
    assert third["msg"] == first["msg"] and third["structured-data"] == first["structured-data"]


async def test_rsyslog_reads_the_local_form_from_its_socket(tmp_path: Path) -> None:
    with running_rsyslog(tmp_path) as server:
        outcome = await _sent(address=f"unix://{server.unix}", facility="user")
        (message,) = server.messages(1)
    assert isinstance(outcome, Delivered)
    assert message["pri"] == "9" and message["app-name"] == "tocsin"
    assert message["procid"].isdigit() and "#42" in message["msg"]


async def test_rsyslog_takes_it_by_tls_with_a_client_certificate(tmp_path: Path) -> None:
    ca, others = trustme.CA(), trustme.CA()
    files: dict[str, Any] = {
        name: str(tmp_path / f"client-{name}") for name in ("cert_file", "key_file")
    }
    client = ca.issue_cert("agent.example.com")
    client.cert_chain_pems[0].write_to_path(files["cert_file"])
    client.private_key_pem.write_to_path(files["key_file"])
    others.cert_pem.write_to_path(str(tmp_path / "others.pem"))
    with running_rsyslog(tmp_path, tls=ca, auth="x509/certvalid") as server:
        address = f"tls://localhost:{server.tcp}"
        trusted: dict[str, Any] = {"ca_file": str(tmp_path / "ca.pem")}
        distrusted = await _sent(address=address, ca_file=str(tmp_path / "others.pem"), **files)
        outcome = await _sent(address=address, **trusted, **files)
        (message,) = server.messages(1)
    assert isinstance(distrusted, Permanent) and "set ca_file" in distrusted.error
    assert isinstance(outcome, Delivered) and message["msgid"] == "opened"


async def test_rsyslog_reads_hostile_values_as_one_message_each(tmp_path: Path) -> None:
    with running_rsyslog(tmp_path) as server:
        for number, value in enumerate(HOSTILE, 1):
            outcome = await _sent(_labelled(value), address=f"tcp://127.0.0.1:{server.tcp}")
            assert isinstance(outcome, Delivered)
            messages = server.messages(number)
            assert len(messages) == number
    for message in messages:
        assert message["pri"] == "25" and message["msgid"] == "opened"
        assert '[tocsin@32473 incident="42" severity="P0"' in message["structured-data"]
        assert "#42" in message["msg"] and "\n" not in message["msg"]


@pytest.mark.parametrize("most", [480, 481, 482, 483, 484, 700, 2048])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_message_follows_the_grammar_in_as_many_bytes_as_allowed(most: int, value: str) -> None:
    sent = _labelled(value)
    line = f"P0 EngineDown (#42): {value} is down" + " and more" * 300
    message = rfc5424_message(sent, line, NEW_YEAR_MS, _settings(max_bytes=most), "gpu-1")
    parsed = RFC5424.fullmatch(message)
    assert parsed is not None and len(message) <= most and parsed[6] == b"opened"
    assert b'incident="42" severity="P0"' in parsed[7]
    assert parsed[8].decode().startswith("P0 EngineDown (#42): ") and parsed[8].endswith(
        "…".encode()
    )
    assert not re.search(rb"[\x00-\x1f\x7f]", message)


def test_a_host_name_that_the_header_cannot_hold_is_made_fit() -> None:
    settings = _settings(max_bytes=480)
    message = rfc5424_message(
        notification(), "#42", NEW_YEAR_MS, settings, "gpu 1\n机器" + "x" * 300
    )
    parsed = RFC5424.fullmatch(message)
    assert parsed is not None and parsed[3] == b"gpu1" + b"x" * 251
    nothing = rfc5424_message(notification(), "#42", NEW_YEAR_MS, settings, "机器")
    assert b"Z - tocsin " in nothing


@pytest.mark.parametrize(
    ("sent", "priority"),
    [
        (notification(), 25),
        (notification(severity="P1"), 26),
        (notification(severity="P2"), 27),
        (notification(severity="P3"), 28),
        (notification(severity="P4"), 29),
        (notification(severity=""), 30),
        (notification(reason=Reason.ACKED), 30),
        (resolved(), 30),
    ],
)
def test_the_severity_follows_the_incident(sent: Notification, priority: int) -> None:
    message = rfc5424_message(sent, "what", NEW_YEAR_MS, _settings(), "gpu-1")
    assert message.startswith(f"<{priority}>1 ".encode())


@asynccontextmanager
async def _stream(stays_open: bool = False) -> AsyncIterator[tuple[int, list[bytes]]]:
    got: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())
        if stays_open:
            await asyncio.sleep(60)

    async with broken_server(read) as port:
        yield port, got


async def test_octets_are_counted_and_not_characters() -> None:
    async with _stream() as (port, got):
        await _sent(_labelled("机器"), address=f"tcp://127.0.0.1:{port}")
    length, _, message = got[0].partition(b" ")
    assert int(length) == len(message) > len(message.decode())


async def test_a_server_that_keeps_its_side_open_holds_nothing_up() -> None:
    began = time.monotonic()
    async with _stream(stays_open=True) as (port, _):
        outcome = await _sent(address=f"tcp://127.0.0.1:{port}")
    assert isinstance(outcome, Delivered) and time.monotonic() - began < 10


async def test_who_resets_or_does_not_listen_gets_it_again(tmp_path: Path) -> None:
    async with broken_server(reset) as port:
        broken = await _sent(address=f"tcp://127.0.0.1:{port}")
    nobody = free_port()
    outcomes = [
        broken,
        await _sent(address=f"tcp://127.0.0.1:{nobody}"),
        await _sent(address=f"udp://127.0.0.1:{nobody}"),
        await _sent(address=f"unix://{tmp_path}/none"),
        await _sent(address="udp://no-such-host.invalid:514"),
    ]
    assert [type(outcome) for outcome in outcomes] == [RetryAt] * 5, outcomes


async def test_a_server_that_takes_no_bytes_is_given_up_in_time() -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with broken_server(stuck) as port:
        outcome = await _sent(address=f"tls://127.0.0.1:{port}", timeout="300ms")
    assert isinstance(outcome, RetryAt) and "not sent within 0.3 s" in outcome.error


async def test_a_certificate_is_verified_unless_told_otherwise(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example.com").configure_cert(context)
    got: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0, ssl=context)
    address = f"tls://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        refused = await _sent(address=address)
        taken = await _sent(address=address, insecure_skip_verify=True)
    assert isinstance(refused, Permanent) and isinstance(taken, Delivered)
    assert got[-1].partition(b" ")[2].startswith(b"<25>1 2026-")


@pytest.mark.parametrize(
    "settings",
    [
        {"address": "127.0.0.1:514"},
        {"address": "http://127.0.0.1"},
        {"address": "udp://"},
        {"address": "udp://host:0"},
        {"address": "udp://host:99999"},
        {"address": "tcp://host/path"},
        {"address": "tcp://me:password@host:514"},
        {"address": "unix://host/dev/log"},
        {"address": "unix:log"},
        {"facility": "local8"},
        {"app_name": "two words"},
        {"max_bytes": 479},
        {"enterprise_id": 0},
        {"ca_file": "ca.pem"},
        {"address": "tls://host", "key_file": "key.pem"},
    ],
)
def test_what_cannot_work_is_an_error_of_the_configuration(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _settings(**settings)
