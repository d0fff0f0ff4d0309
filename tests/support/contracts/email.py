"""E-mail: the other side is a mail server, and a person reads it in a mail program."""

import base64
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from support.authority import Authority
from support.broken_server import drip, garbage, reset
from support.channel_contract import Case, ChannelContract, at, nobody_there, send_once
from support.mailbox import Letter, Mailbox
from tocsin_alerting.incidents.outbox_message import Outcome

_PASSWORD = "hunter2-and-more"
_PLAIN = {
    base64.b64encode(_PASSWORD.encode()).decode(),
    base64.b64encode(f"\0tocsin\0{_PASSWORD}".encode()).decode(),
}
_SAID = " ".join(sorted({_PASSWORD, *_PLAIN})).encode()
_HELLO = (b"220 hi\r\n", b"250-hello\r\n250 AUTH PLAIN\r\n")
_LOGIN = {"username": "tocsin", "password_env": "PW"}
_TO = ["b@example.com", "c@example.com"]


def _section(address: str) -> Mapping[str, Any]:
    return {
        "smarthost": address.partition("://")[2],
        "from": "a@example.com",
        "to": _TO,
        "tls": "none",
        "timeout": "2s",
        **_LOGIN,
    }


_NO_LOGIN: Mapping[str, Any] = {"username": None, "password_env": None}


def _said(*replies: str) -> Case:
    async def case(contract: ChannelContract, _: Authority) -> list[Outcome]:
        found = []
        for reply in replies:
            async with Mailbox(says={"RCPT": reply} if reply else {}) as box:
                found.append(await send_once(contract.build(at(box.port), **_NO_LOGIN)))
        return found

    return case


async def _no_starttls(contract: ChannelContract, _: Authority) -> list[Outcome]:
    async with Mailbox() as box:
        return [await send_once(contract.build(at(box.port), tls="starttls", **_NO_LOGIN))]


async def _untrusted(contract: ChannelContract, authority: Authority) -> list[Outcome]:
    found = []
    for tls in ("starttls", "implicit"):
        async with Mailbox(tls=authority.server(), implicit=tls == "implicit") as box:
            found.append(await send_once(contract.build(at(box.port), tls=tls, **_NO_LOGIN)))
    return found


async def _wrong_password(contract: ChannelContract, authority: Authority) -> list[Outcome]:
    async with Mailbox(tls=authority.server(), users={"tocsin": "another"}) as box:
        ca_file = str(authority.ca_file)
        channel = contract.build(at(box.port), tls="starttls", ca_file=ca_file)
        return [await send_once(channel)]


class _Page(HTMLParser):
    """What is seen of a page, and what it would fetch or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.active: list[str] = []
        self._in: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in += [tag] if tag in ("style", "title") else []
        if tag in ("script", "iframe", "object", "embed", "form", "base"):
            self.active.append(tag)
        for name, value in attributes:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.active.append(f"{tag} {name}")
            self.seen += [value or ""] if name == "href" else []

    def handle_endtag(self, tag: str) -> None:
        self._in = self._in[:-1] if self._in[-1:] == [tag] else self._in

    def handle_data(self, data: str) -> None:
        self.seen += [] if self._in else [data]


def _heard(box: Mailbox) -> str:
    message = box.messages[-1].message
    text, page = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None and page is not None
    return "\n".join(
        (message["subject"], text.get_content(), "".join(_Page(page.get_content()).seen))
    )


def _mentioned(box: Mailbox) -> Sequence[str]:
    """Who got it that should not have, what is in its head that we did not write, what its page
    does."""
    return [wrong for letter in box.messages for wrong in _wrong_in(letter)]


def _wrong_in(letter: Letter) -> Sequence[str]:
    page = letter.message.get_body(("html",))
    active = _Page(page.get_content()).active if page is not None else ["no page"]
    heads = [name for name in letter.message if name.lower() in ("bcc", "cc", "x-injected")]
    return [*(to for to in letter.to if to not in _TO), *heads, *active]


CONTRACT = ChannelContract(
    kind="email",
    section=_section,
    env={"PW": _PASSWORD},
    secrets=frozenset(_PLAIN),
    double=lambda: Mailbox(users={"tocsin": _PASSWORD}),
    heard=_heard,
    mentioned=_mentioned,
    identity=lambda box: [letter.message["message-id"] for letter in box.messages],
    http=False,
    behaviours={
        "reset": reset,
        "garbage": garbage,
        "refused": drip(*_HELLO, b"535 no: " + _SAID + b"\r\n"),
        "later": drip(*_HELLO, b"454 no: " + _SAID + b"\r\n"),
        "echo": drip(_SAID + b"\r\n"),
    },
    answers={
        "SMTP 250": _said(""),
        "SMTP 400 to 499": _said("421 closing", "450 busy", "451 greylisted", "452 disk full"),
        "no STARTTLS": _no_starttls,
        "a certificate that is not trusted": _untrusted,
        "SMTP 535, password refused": _wrong_password,
        "SMTP 550, 552, 554 and other 5xx": _said(
            "500 what", "550 no such user", "550 5.7.1 policy", "552 too big", "554 refused"
        ),
        "SMTP 550 5.1.1 or 5.1.10 for every recipient": _said(
            "550 5.1.1 user unknown", "550 5.1.10 not found"
        ),
        "connection refused or broken": nobody_there,
    },
)
