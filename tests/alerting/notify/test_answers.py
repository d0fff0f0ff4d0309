"""Each line of the table of answers in docs/channels.md, by a real receiver that gives it."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.authority import Authority
from support.broken_server import broken_server, garbage, reset, silence
from support.mailbox import Mailbox
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.apprise import AppriseSettings
from tocsin_alerting.notify.deps import ChannelDeps
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.registry import CHANNELS
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.webhook.settings import WebhookSettings

DOCS = Path(__file__).parents[3] / "docs" / "channels.md"
# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
ROWS = re.findall(r"^\| ((?:webhook|email|apprise): .*?) \| (\w+) \|$", DOCS.read_text(), re.M)
SUPPLIES = ChannelDeps(vault=Vault({"PW": "wrong"}, lambda path: ""))


def outcome_word(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "done"
        case RetryAt():
            return "later"
        case Permanent():
            return "never" if outcome.final else "refused"


async def _hook(url: str, **more: Any) -> Outcome:
    settings = WebhookSettings.model_validate(
        {"type": "webhook", "url": url, "timeout": "500ms", **more}
    )
    channel = CHANNELS["webhook"]("hook", settings, SUPPLIES)
    outcome = await channel.send(notification(), NEW_YEAR_MS)
    await channel.close()
    return outcome


async def _mail(smarthost: str, **more: Any) -> Outcome:
    settings = EmailSettings.model_validate(
        {
            "type": "email",
            "smarthost": smarthost,
            "from": "a@example.com",
            "to": ["b@example.com", "c@example.com"],
            "tls": "none",
            "timeout": "2s",
            **more,
        }
    )
    return await CHANNELS["email"]("mail", settings, SUPPLIES).send(notification(), NEW_YEAR_MS)


Case = Callable[[Authority], Awaitable[list[Outcome]]]


def answered(*statuses: int, body: str = "no") -> Case:
    async def case(_: Authority) -> list[Outcome]:
        answers = [Answer(status, body=body.encode()) for status in statuses]
        async with WebhookSink(*answers) as sink:
            return [await _hook(sink.url) for _ in statuses]

    return case


def said(*replies: str) -> Case:
    async def case(_: Authority) -> list[Outcome]:
        found = []
        for reply in replies:
            async with Mailbox(says={"RCPT": reply} if reply else {}) as box:
                found.append(await _mail(box.smarthost))
        return found

    return case


async def _silent(_: Authority) -> list[Outcome]:
    async with broken_server(silence) as port:
        return [await _hook(f"http://127.0.0.1:{port}/")]


async def _nobody_hooked(_: Authority) -> list[Outcome]:
    async with broken_server(reset) as port:
        broken = await _hook(f"http://127.0.0.1:{port}/")
    return [broken, await _hook(f"http://127.0.0.1:{port}/")]


async def _nobody_mailed(_: Authority) -> list[Outcome]:
    async with broken_server(reset) as port:
        broken = await _mail(f"127.0.0.1:{port}")
    return [broken, await _mail(f"127.0.0.1:{port}")]


async def _no_name(_: Authority) -> list[Outcome]:
    return [await _hook("http://no-such-host.invalid/hook", timeout="5s")]


async def _untrusted_hook(authority: Authority) -> list[Outcome]:
    async with WebhookSink(tls=authority.server()) as sink:
        return [await _hook(sink.url)]


async def _no_tls(_: Authority) -> list[Outcome]:
    async with broken_server(garbage) as port:
        return [await _hook(f"https://127.0.0.1:{port}/")]


async def _no_starttls(_: Authority) -> list[Outcome]:
    async with Mailbox() as box:
        return [await _mail(box.smarthost, tls="starttls")]


async def _untrusted_mail(authority: Authority) -> list[Outcome]:
    found = []
    for tls in ("starttls", "implicit"):
        async with Mailbox(tls=authority.server(), implicit=tls == "implicit") as box:
            found.append(await _mail(box.smarthost, tls=tls))
    return found


async def _wrong_password(authority: Authority) -> list[Outcome]:
    login = {"username": "me", "password_env": "PW", "ca_file": str(authority.ca_file)}
    async with Mailbox(tls=authority.server(), users={"me": "right"}) as box:
        return [await _mail(box.smarthost, tls="starttls", **login)]


def handed(status: int) -> Case:
    async def case(_: Authority) -> list[Outcome]:
        pytest.importorskip("apprise", reason="needs the extra apprise")
        async with WebhookSink(Answer(status)) as sink:
            vault = Vault({"URL": f"json://127.0.0.1:{sink.port}/"}, lambda path: "")
            settings = AppriseSettings.model_validate({"type": "apprise", "url_env": "URL"})
            channel = CHANNELS["apprise"]("phone", settings, ChannelDeps(vault=vault))
            outcome = await channel.send(notification(), NEW_YEAR_MS)
            await channel.close()
            return [outcome]

    return case


CASES: dict[str, Case] = {
    "webhook: HTTP 200 to 299": answered(200, 201, 204, 299),
    "webhook: HTTP 200, refused in the body (`errcode` 40008)": answered(
        200, body='{"errcode": 40008}'
    ),
    "webhook: HTTP 200, too many messages (`errcode` 45009)": answered(
        200, body='{"errcode": 45009}'
    ),
    "webhook: HTTP 300 to 399": answered(301, 302, 307),
    "webhook: HTTP 400, 401, 403, 404, 413, 422 and other 4xx": answered(
        400, 401, 403, 404, 413, 418, 422, 451
    ),
    "webhook: HTTP 408, 425, 429": answered(408, 425, 429),
    "webhook: HTTP 410": answered(410),
    "webhook: HTTP 500 to 599": answered(500, 502, 503, 504, 599),
    "webhook: no answer in time": _silent,
    "webhook: connection refused or broken": _nobody_hooked,
    "webhook: name not found": _no_name,
    "webhook: a certificate that is not trusted": _untrusted_hook,
    "webhook: TLS that fails otherwise": _no_tls,
    "email: SMTP 250": said(""),
    "email: SMTP 400 to 499": said("421 closing", "450 busy", "451 greylisted", "452 disk full"),
    "email: no STARTTLS": _no_starttls,
    "email: a certificate that is not trusted": _untrusted_mail,
    "email: SMTP 535, password refused": _wrong_password,
    "email: SMTP 550, 552, 554 and other 5xx": said(
        "500 what", "550 no such user", "550 5.7.1 policy", "552 too big", "554 refused"
    ),
    "email: SMTP 550 5.1.1 or 5.1.10 for every recipient": said(
        "550 5.1.1 user unknown", "550 5.1.10 not found"
    ),
    "email: connection refused or broken": _nobody_mailed,
    "apprise: handed over": handed(200),
    "apprise: not handed over": handed(403),
}


def test_the_table_has_these_lines() -> None:
    assert [answer for answer, _ in ROWS] == list(CASES)


@pytest.mark.parametrize(("answer", "word"), ROWS)
async def test_an_answer_means_what_the_page_says(answer: str, word: str, tmp_path: Path) -> None:
    outcomes = await CASES[answer](Authority(tmp_path))
    assert {outcome_word(one) for one in outcomes} == {word}, outcomes
