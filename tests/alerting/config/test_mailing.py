"""One address in contacts pages: by `smtp`, or by this machine's mail server; else no."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.broken_server import broken_server, garbage, silence
from support.mailbox import Mailbox
from support.notifications import NEW_YEAR_MS, notification
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import build_channels, incident_config, load
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
)
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.incidents.roster import resolve
from tocsin_alerting.notify.email.local_server import why_unusable
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.yaml_document import InvalidDocument

ME = "contacts: {me: {email: me@example.com}}\n"


def _none(sender: str, recipients: Sequence[str]) -> str:
    return "no mail server responds on 127.0.0.1:25 (refused)"


def _takes(sender: str, recipients: Sequence[str]) -> str:
    assert recipients == ["me@example.com"] and sender.startswith("tocsin@")
    return ""


def _loaded(folder: Path, text: str, local_mail: object = _none) -> Config:
    path = folder / "tocsin.yml"
    path.write_text(text)
    return load(path, {"PW": "hunter2"}, local_mail=local_mail)  # type: ignore[arg-type]


def _first_told(config: Config) -> set[frozenset[Addressee]]:
    """Of all severities, at any time of the day."""
    incidents = incident_config(config)
    steps = {one: incidents.policies[one].steps[0] for one in Severity}
    return {
        frozenset(resolve(step.notify, incidents.roster, hour * HOUR_MS, one))
        for one, step in steps.items()
        for hour in range(24)
    }


HOUR_MS = 3_600_000
ME_BY_MAIL = Addressee("mail", "me")


def test_a_mail_server_of_this_machine_writes_to_contacts(tmp_path: Path) -> None:
    config = _loaded(tmp_path, ME, _takes)
    assert _first_told(config) == {frozenset({Addressee("log"), ME_BY_MAIL})}
    assert vars(config.receivers["mail"])["smarthost"] == "127.0.0.1:25"


def test_it_is_asked_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(sender: str, recipients: Sequence[str]) -> str:
        asked.append(sender)
        return ""

    _loaded(tmp_path, ME, counted)
    assert len(asked) == 1


def test_with_nothing_that_can_send_mail_it_is_refused_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidDocument, match=r"tocsin.yml:1:11: no mail can be sent to me: .*smtp"
    ):
        _loaded(tmp_path, ME)


async def test_a_section_smtp_writes_to_contacts_and_the_page_arrives(tmp_path: Path) -> None:
    async with Mailbox() as box:
        smtp = f'smtp: {{smarthost: "{box.smarthost}", tls: none, timeout: 5s}}\n'
        config = _loaded(tmp_path, ME + smtp)
        assert _first_told(config) == {frozenset({Addressee("log"), ME_BY_MAIL})}
        mail = build_channels(config, {})["mail"]
        page = notification(receiver="mail", contact="me")
        assert isinstance(await mail.send(page, NEW_YEAR_MS), Delivered)
        (letter,) = await box.wait_for(1)
    assert letter.to == ("me@example.com",) and letter.sender.startswith("tocsin@")


def test_smtp_keeps_all_that_it_says(tmp_path: Path) -> None:
    smtp = (
        'smtp: {smarthost: "mx:26", from: a@example.com, username: u, password_env: PW,'
        " tls: implicit, timeout: 1m30s, insecure_skip_verify: true, hello: h}"
    )
    mail = _loaded(tmp_path, ME + smtp).receivers["mail"]
    assert mail.model_dump(exclude_unset=True, by_alias=True) == {
        **{"type": "email", "smarthost": "mx:26", "from": "a@example.com", "username": "u"},
        **{"password_env": "PW", "tls": "implicit", "timeout": 90_000, "hello": "h"},
        "insecure_skip_verify": True,
    }


def test_a_receiver_of_type_email_comes_first_and_no_name_is_taken_twice(tmp_path: Path) -> None:
    own = "receivers: {post: {type: email, smarthost: mx, from: a@example.com}}\n"
    smtp = "smtp: {smarthost: other}\n"
    assert list(_loaded(tmp_path, ME + own + smtp).receivers) == ["post"]
    hook = "receivers: {mail: {type: webhook, url: 'http://127.0.0.1:9/'}}\n"
    assert list(_loaded(tmp_path, ME + hook + smtp).receivers) == ["mail", "smtp"]


def test_a_policy_may_name_contacts_without_a_receiver(tmp_path: Path) -> None:
    policy = "policies: {P0: {steps: [{notify: [{contact: me, via: [email]}]}]}}\n"
    config = _loaded(tmp_path, ME + policy, _takes)
    incidents = incident_config(config)
    step = incidents.policies["P0"].steps[0]
    assert resolve(step.notify, incidents.roster, 0, Severity.P0) == (ME_BY_MAIL,)
    with pytest.raises(InvalidDocument, match=r"2:\d+: no mail can be sent to me"):
        _loaded(tmp_path, ME + policy)


def test_nobody_is_asked_about_mail_that_is_not_needed(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def noted(sender: str, recipients: Sequence[str]) -> str:
        asked.append(recipients)
        return ""

    for text in ("evaluation_interval: 1s", "smtp: {smarthost: mx}", ME + "smtp: {smarthost: mx}"):
        _loaded(tmp_path, text, noted)
        assert asked == [], text
    _loaded(tmp_path, ME, noted)
    assert asked == [["me@example.com"]]


async def test_a_server_is_asked_for_each_recipient_and_given_no_message() -> None:
    async with Mailbox(says={"RCPT b@example.com": "550 no relaying"}) as box:
        server = f"127.0.0.1:{box.port}"
        ask = asyncio.to_thread
        assert await ask(why_unusable, "t@here", ["a@example.com"], server) == ""
        refused = await ask(why_unusable, "t@here", ["a@example.com", "b@example.com"], server)
        assert refused == f"the mail server on {server} refuses b@example.com: 550 no relaying"
        box.says["RCPT"] = "450 greylisted"
        assert await ask(why_unusable, "t@here", ["a@example.com"], server) == ""
        assert box.messages == []


@pytest.mark.parametrize("odd", [garbage, silence])
async def test_what_is_no_mail_server_does_not_count(odd: object) -> None:
    async with broken_server(odd) as port:  # type: ignore[arg-type]
        said = await asyncio.to_thread(
            why_unusable, "t@here", ["a@example.com"], f"127.0.0.1:{port}", 0.5
        )
    assert said.startswith(f"no mail server responds on 127.0.0.1:{port} (")


async def test_a_server_that_is_too_busy_now_is_one_all_the_same() -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"421 4.3.2 too busy\r\n")
        await writer.drain()
        await reader.read()

    async with broken_server(busy) as port:
        server = f"127.0.0.1:{port}"
        assert await asyncio.to_thread(why_unusable, "t@here", ["a@example.com"], server) == ""
