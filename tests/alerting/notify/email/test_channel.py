import asyncio
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from support.authority import Authority
from support.broken_server import broken_server, drip, garbage, half_close, reset, silence
from support.hanging_names import DOMAIN, hanging_names
from support.mailbox import Mailbox
from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.email.channel import Email, PartialDeliveries
from tocsin_alerting.notify.email.settings import EmailSettings, host_and_port
from tocsin_alerting.notify.secret import Vault

PASSWORD = "hunter2-and-more"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def _email(smarthost: str, **settings: Any) -> Email:
    data = {
        "type": "email",
        "smarthost": smarthost,
        "from": "alerts@example.com",
        "to": ["ops@example.com"],
        "tls": "none",
        "timeout": "2s",
        **settings,
    }
    vault = Vault({"PW": PASSWORD}, lambda path: path.read_text("utf-8"))
    deps = ChannelDeps(vault=vault, addresses={"li": "li@example.com"})
    return Email("mail", EmailSettings.model_validate(data), deps)


async def test_starttls_with_a_login(authority: Authority) -> None:
    async with Mailbox(tls=authority.server(), users={"tocsin": PASSWORD}) as box:
        email = _email(
            box.smarthost,
            tls="starttls",
            username="tocsin",
            password_env="PW",
            ca_file=str(authority.ca_file),
        )
        transcript: list[str] = []
        result = await email.send(notification(), NEW_YEAR_MS, transcript)
        (letter,) = await box.wait_for(1)
    assert isinstance(result, Delivered) and "queued as 1" in result.detail
    assert result.reference == letter.message["Message-ID"]
    assert letter.encrypted and letter.logged_in_as == "tocsin"
    assert letter.sender == "alerts@example.com" and letter.to == ("ops@example.com",)
    assert "> STARTTLS" in transcript and PASSWORD not in "\n".join(transcript)
    assert transcript[-1].startswith("= delivered: ") and "queued as 1" in transcript[-1]


async def test_implicit_tls(authority: Authority) -> None:
    async with Mailbox(tls=authority.server(), implicit=True) as box:
        email = _email(box.smarthost, tls="implicit", ca_file=str(authority.ca_file))
        assert isinstance(await email.send(notification(), NEW_YEAR_MS), Delivered)
        assert (await box.wait_for(1))[0].encrypted


async def test_no_tls_where_the_file_says_so() -> None:
    async with Mailbox() as box:
        assert isinstance(await _email(box.smarthost).send(resolved(), NEW_YEAR_MS), Delivered)
        (letter,) = await box.wait_for(1)
    assert not letter.encrypted and letter.message["Subject"].startswith("[P0 resolved]")


async def test_a_contact_is_written_to_alone() -> None:
    async with Mailbox() as box:
        email = _email(box.smarthost)
        assert isinstance(await email.send(notification(contact="li"), NEW_YEAR_MS), Delivered)
        assert (await box.wait_for(1))[0].to == ("li@example.com",)
        gone = await email.send(notification(contact="wang"), NEW_YEAR_MS)
    assert gone == Permanent("contact wang has no e-mail address in the configuration; add one")


async def test_starttls_is_required_by_default() -> None:
    async with Mailbox() as box:
        result = await _email(box.smarthost, tls="starttls").send(notification(), NEW_YEAR_MS)
    assert isinstance(result, Permanent) and "STARTTLS" in result.error
    assert box.messages == []


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_is_checked(authority: Authority, tls: str) -> None:
    context = authority.server()
    async with Mailbox(tls=context, implicit=tls == "implicit") as box:
        result = await _email(box.smarthost, tls=tls).send(notification(), NEW_YEAR_MS)
        assert isinstance(result, Permanent) and "ca_file" in result.error
        assert box.messages == []
        trusting = _email(box.smarthost, tls=tls, insecure_skip_verify=True)
        assert isinstance(await trusting.send(notification(), NEW_YEAR_MS), Delivered)


async def test_a_certificate_of_another_name_is_refused(authority: Authority) -> None:
    async with Mailbox(tls=authority.server("other.example")) as box:
        email = _email(box.smarthost, tls="starttls", ca_file=str(authority.ca_file))
        assert isinstance(await email.send(notification(), NEW_YEAR_MS), Permanent)


async def test_a_wrong_password_is_final_and_stays_secret(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with Mailbox(tls=authority.server(), users={"tocsin": "another"}) as box:
        email = _email(
            box.smarthost,
            tls="starttls",
            username="tocsin",
            password_env="PW",
            ca_file=str(authority.ca_file),
        )
        transcript: list[str] = []
        async with asyncio.timeout(2):
            result = await email.send(notification(), NEW_YEAR_MS, transcript)
    assert isinstance(result, Permanent) and "535" in result.error
    assert box.messages == []
    shown = "\n".join([result.error, repr(email), *transcript])
    assert PASSWORD not in shown and PASSWORD not in caplog.text.replace("mail.log", "")


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("421 closing", RetryAt),
        ("450 mailbox busy", RetryAt),
        ("451 greylisted", RetryAt),
        ("452 disk full", RetryAt),
        ("500 what", Permanent),
        ("550 no such user", Permanent),
        ("552 too big", Permanent),
        ("554 refused", Permanent),
    ],
)
async def test_4xx_is_for_later_and_5xx_for_ever(stage: str, answer: str, kind: type) -> None:
    async with Mailbox(says={stage: answer}) as box:
        result = await _email(box.smarthost).send(notification(), NEW_YEAR_MS)
    assert isinstance(result, RetryAt | Permanent) and isinstance(result, kind)
    assert answer in result.error
    assert box.smarthost in result.error


def _logging_in(box: Mailbox, authority: Authority) -> Email:
    login = {"username": "tocsin", "password_env": "PW"}
    return _email(box.smarthost, tls="starttls", ca_file=str(authority.ca_file), **login)


@pytest.mark.parametrize("password", [PASSWORD, "another"])
async def test_a_server_that_does_not_know_auth_plain_is_asked_by_auth_login(
    authority: Authority, password: str
) -> None:
    says = {"AUTH PLAIN": "504 5.5.4 Unrecognized authentication type"}
    async with Mailbox(tls=authority.server(), users={"tocsin": password}, says=says) as box:
        transcript: list[str] = []
        email = _logging_in(box, authority)
        result = await email.send(notification(), NEW_YEAR_MS, transcript)
    assert "< AUTH PLAIN: 504 5.5.4 Unrecognized authentication type" in transcript
    if password == PASSWORD:
        assert isinstance(result, Delivered) and box.messages[0].logged_in_as == "tocsin"
    else:
        assert isinstance(result, Permanent) and "535" in result.error
    assert PASSWORD not in repr((transcript, result))


async def test_a_method_that_is_refused_otherwise_is_the_only_one(authority: Authority) -> None:
    says = {"AUTH PLAIN": "535 5.7.8 no"}
    async with Mailbox(tls=authority.server(), users={"tocsin": PASSWORD}, says=says) as box:
        result = await _logging_in(box, authority).send(notification(), NEW_YEAR_MS)
    assert isinstance(result, Permanent) and "535 5.7.8 no" in result.error and not box.messages


@pytest.mark.parametrize("code", ["501", "555"])
async def test_a_body_of_8_bits_goes_again_in_7_where_the_server_does_not_know_it(
    code: str,
) -> None:
    said = f"{code} 5.5.4 Unsupported option: BODY=8BITMIME"
    async with Mailbox(says={"MAIL BODY=8BITMIME": said}) as box:
        transcript: list[str] = []
        message = notification(note="引擎无响应", actor="李")
        result = await _email(box.smarthost).send(message, NEW_YEAR_MS, transcript)
    assert isinstance(result, Delivered), result
    assert f"< {said}" in transcript and "> the message again without 8BITMIME" in transcript
    (letter,) = box.messages
    text = letter.message.get_body(("plain",))
    assert text is not None and "引擎无响应" in text.get_content()
    encodings = {str(part["Content-Transfer-Encoding"]) for part in letter.message.walk()}
    assert encodings <= {"None", "base64", "quoted-printable", "7bit"}
    async with Mailbox(says={"MAIL": "501 5.1.7 bad sender"}) as box:
        refused = await _email(box.smarthost).send(notification(), NEW_YEAR_MS)
    assert isinstance(refused, Permanent) and "bad sender" in refused.error


async def test_a_retry_goes_to_those_who_were_not_reached() -> None:
    to = ["ops@example.com", "slow@example.com", "gone@example.com"]
    says = {"RCPT slow@example.com": "450 later", "RCPT gone@example.com": "550 no such user"}
    async with Mailbox(says=says) as box:
        email = _email(box.smarthost, to=to)
        first = await email.send(notification(), NEW_YEAR_MS)
        del box.says["RCPT slow@example.com"]
        second = await email.send(notification(), NEW_YEAR_MS)
        third = await email.send(notification(key="another"), NEW_YEAR_MS)
    assert isinstance(first, RetryAt) and "slow@example.com" in first.error
    assert isinstance(second, Delivered) and isinstance(third, Delivered)
    assert "refused: gone@example.com" in third.detail
    assert [letter.to for letter in box.messages[:2]] == [
        ("ops@example.com",),
        to[1:2] and ("slow@example.com",),
    ]


def test_of_too_many_half_delivered_messages_the_oldest_is_forgotten() -> None:
    """The newest are about to be tried again: whom they reached must not get them twice."""
    to = ("ops@example.com", "slow@example.com")
    unreached = to[1:]
    partial = PartialDeliveries(most=2)
    for key in ("first", "second", "first", "third"):  # the first one was tried again meanwhile
        partial.keep(key, unreached)
    assert partial.recipients("second", to) == to
    assert partial.recipients("first", to) == partial.recipients("third", to) == unreached
    partial.keep("first", ())
    assert partial.recipients("first", to) == to


async def test_whom_nobody_knows_is_not_tried_again() -> None:
    to = ["gone@example.com", "slow@example.com", "odd@example.com"]
    says = {
        "RCPT gone@example.com": "550 5.1.1 user unknown",
        "RCPT slow@example.com": "450 4.2.1 later",
        "RCPT odd@example.com": "550 5.7.1 policy",
    }
    async with Mailbox(says=says) as box:
        email = _email(box.smarthost, to=to)
        assert isinstance(await email.send(notification(), NEW_YEAR_MS), RetryAt)
        box.says.clear()
        assert isinstance(await email.send(notification(), NEW_YEAR_MS), Delivered)
    assert [letter.to for letter in box.messages] == [("slow@example.com", "odd@example.com")]


SMTP_UP_TO_DATA = (b"220 hi\r\n", b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
BROKEN = {
    "reset": reset,
    "silence": silence,
    "half-closed": half_close,
    "garbage": garbage,
    "greets for ever": drip(b"220-still thinking\r\n", for_ever=True),
    "one byte at a time": drip(b"2", for_ever=True),
    "dies after DATA": drip(*SMTP_UP_TO_DATA),
    "hangs after DATA": drip(*SMTP_UP_TO_DATA, b"", for_ever=True),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_server_is_for_later_and_bounded(kind: str) -> None:
    began = time.monotonic()
    async with broken_server(BROKEN[kind]) as port:
        email = _email(f"127.0.0.1:{port}", timeout="500ms")
        result = await email.send(notification(), NEW_YEAR_MS)
    assert isinstance(result, RetryAt) and time.monotonic() - began < 20


async def test_nobody_there(unused_tcp_port: int) -> None:
    result = await _email(f"127.0.0.1:{unused_tcp_port}").send(notification(), NEW_YEAR_MS)
    assert isinstance(result, RetryAt)
    assert result.error == f"127.0.0.1:{unused_tcp_port}: connection refused"


async def test_long_lines_and_single_dots_arrive_whole() -> None:
    title = "x" * 150
    words = "first\n.\n..\n" + "y" * 3000
    notes = {"summary": words, "description": words}
    page = notification(title=title, alerts=(replace(ENGINE_DOWN, annotations=notes),))
    async with Mailbox() as box:
        assert isinstance(await _email(box.smarthost).send(page, NEW_YEAR_MS), Delivered)
        (letter,) = await box.wait_for(1)
    part = letter.message.get_body(("plain",))
    assert part is not None
    text = part.get_content().replace("\r\n", "\n")
    assert "first\n  .\n  ..\n  " + "y" * 3000 in text and title in text
    assert "first . .. yyy" in letter.message["Subject"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("smtp.example.com:587", ("smtp.example.com", 587)),
        ("smtp.example.com", ("smtp.example.com", None)),
        ("[::1]:25", ("::1", 25)),
        ("[::1]", ("::1", None)),
    ],
)
def test_smarthosts(text: str, parts: tuple[str, int | None]) -> None:
    assert host_and_port(text) == parts


@pytest.mark.parametrize("text", ["", ":25", "a b:25", "a:0", "a:x", "a:70000", "smtp://a:25"])
def test_what_is_no_smarthost(text: str) -> None:
    with pytest.raises(ValueError):
        host_and_port(text)


async def test_names_that_hang_hold_up_no_other_receiver() -> None:
    with hanging_names() as asked:
        for number in range(8):
            email = _email(f"mail{number}{DOMAIN}:25", timeout="50ms")
            for _ in range(3):
                assert isinstance(await email.send(notification(), NEW_YEAR_MS), RetryAt)
        async with Mailbox() as box:
            smarthost = box.smarthost.replace("127.0.0.1", "localhost")
            result = await _email(smarthost, timeout="20s").send(notification(), NEW_YEAR_MS)
    assert isinstance(result, Delivered)
    assert set(asked.values()) == {1} and len(asked) == 8


async def test_others_get_it_too_and_answers_go_where_they_should() -> None:
    more = {
        "cc": ["team@example.com"],
        "bcc": ["archive@example.com"],
        "reply_to": "oncall@example.com",
        "headers": {"X-Team": "inférence " + "long " * 60, "Precedence": "bulk"},
    }
    async with Mailbox() as box:
        email = _email(box.smarthost, **more)
        assert isinstance(await email.send(notification(), NEW_YEAR_MS), Delivered)
        await email.send(notification(contact="li"), NEW_YEAR_MS)
        whole, contact = await box.wait_for(2)
    assert whole.to == ("ops@example.com", "team@example.com", "archive@example.com")
    assert contact.to == ("li@example.com",) and contact.message["Cc"] is None
    mail = whole.message
    assert (mail["To"], mail["Cc"], mail["Bcc"]) == ("ops@example.com", "team@example.com", None)
    assert mail["Reply-To"] == "oncall@example.com" and mail["Precedence"] == "bulk"
    assert mail["X-Team"].split() == ["inférence", *["long"] * 60]
    assert mail["List-Id"] == "<tocsin.example.com>"
    assert "archive" not in str(mail)


async def test_who_was_not_reached_is_tried_again_alone_also_by_copy() -> None:
    async with Mailbox(says={"RCPT archive@example.com": "450 later"}) as box:
        email = _email(box.smarthost, bcc=["archive@example.com"])
        first = await email.send(notification(), NEW_YEAR_MS)
        box.says.clear()
        second = await email.send(notification(), NEW_YEAR_MS)
        letters = await box.wait_for(2)
    assert isinstance(first, RetryAt) and isinstance(second, Delivered)
    assert [letter.to for letter in letters] == [("ops@example.com",), ("archive@example.com",)]


async def test_a_server_that_asks_for_a_certificate_gets_ours(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = ca.issue_cert("alerts@example.com")
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    trusted: dict[str, Any] = {"tls": "implicit", "ca_file": str(tmp_path / "ca.pem")}
    ours = {
        "cert_file": str(tmp_path / "client.pem"),
        "key_file": str(tmp_path / "client.key"),
    }
    async with Mailbox(tls=context, implicit=True) as box:
        without = await _email(box.smarthost, **trusted).send(notification(), NEW_YEAR_MS)
        taken = await _email(box.smarthost, **trusted, **ours).send(notification(), NEW_YEAR_MS)
    assert not isinstance(without, Delivered) and isinstance(taken, Delivered)


async def test_an_address_beyond_ascii_goes_to_servers_that_take_it() -> None:
    async with Mailbox() as box:
        email = _email(box.smarthost, to=["李@例子.example"])
        result = await email.send(notification(), NEW_YEAR_MS)
        letters = list(box.messages)
    if isinstance(result, Delivered):
        assert letters[0].to == ("李@例子.example",)
    else:
        assert isinstance(result, Permanent) and "SMTPUTF8" in result.error


@pytest.mark.parametrize(
    "settings",
    [
        {"cc": ["Li <li@example.com>"]},
        {"reply_to": "nobody"},
        {"to": [], "cc": ["li@example.com"]},
        {"headers": {"Subject": "mine"}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"X-A:B": "c"}},
        {"headers": {"X-A": "b\r\nBcc: c@example.com"}},
        {"headers": {"X-A": " "}},
        {"key_file": "key.pem"},
        {"tls": "none", "cert_file": "cert.pem"},
    ],
)
def test_what_a_mail_cannot_have_is_an_error_of_the_configuration(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _email("localhost:25", **{"tls": "starttls", **settings})
