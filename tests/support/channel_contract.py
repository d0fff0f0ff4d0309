"""What every channel promises, and what a channel has to say about itself to be held to it.

Each kind of channel has a file in `support/contracts` with `CONTRACT`. The tests that hold them all
to it are `tests/alerting/notify/test_channels.py`, and `test_answers.py` for the table of answers
in docs/channels.md.
"""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from support import contracts
from support.authority import Authority
from support.broken_server import Behaviour, broken_server, garbage, reset
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import Channel, ChannelDeps
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.registry import CHANNELS, KINDS, ReceiverSettings
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks

EXTERNAL_URL = "http://gpu-1.example:4911"
Case = Callable[["ChannelContract", Authority], Awaitable[list[Outcome]]]


@dataclass(frozen=True)
class ChannelContract:
    """`section`: the keys of a receiver whose other side listens at an address, which is given as
    `http://localhost:PORT`; short times. `env`: the variables that its secrets come from; these
    values, those of `secrets` and nothing that holds them may be told to anybody.

    `double` is the vendor as its documents describe it: an async context manager that gives an
    object with a `port`. It refuses what they forbid, so that a message that it refused fails.
    `heard(double)`: what the addressee of the newest message sees of it, as a person reads it (what
    was escaped is as it was), all texts and links, a part a line. `mentioned(double)`: whom any of
    the messages called by name. `identity(double)`: what each try was known by, where the vendor
    takes such a thing. `lost`: characters that the vendor's format cannot show at all.

    `answers`: for each row of docs/channels.md of this kind how it is asked. `http`: whether the
    other side speaks HTTP, and any answer by it is tried.
    """

    kind: str
    section: Callable[[str], Mapping[str, Any]]
    double: Callable[[], AbstractAsyncContextManager[Any]]
    heard: Callable[[Any], str]
    answers: Mapping[str, Case]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    mentioned: Callable[[Any], Sequence[str]] = lambda _: ()
    identity: Callable[[Any], Sequence[str]] | None = None
    deps: Mapping[str, Any] = field(default_factory=dict)
    lost: str = ""
    http: bool = True
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    has_link: bool = True
    address_env: Callable[[str], Mapping[str, str]] = lambda _: {}
    package: str = ""

    @property
    def all_secrets(self) -> frozenset[str]:
        return self.secrets | set(self.env.values())

    def build(
        self, address: str, *, language: str = "en", links: SignedLinks | None = None, **more: Any
    ) -> Channel:
        if self.package:
            pytest.importorskip(self.package, reason=f"needs the extra {self.package}")
        section = {"type": self.kind, **self.section(address), **more}
        env = {**self.env, **self.address_env(address)}
        links = links or SignedLinks(EXTERNAL_URL)
        deps = ChannelDeps(
            vault=Vault(env, lambda path: path.read_text("utf-8")),
            templates=MessageTemplates(language, hostname="gpu-1", links=links),
            links=links,
        )
        built = replace(deps, **self.deps)
        return CHANNELS[self.kind]("ops", settings_model(self.kind).model_validate(section), built)


def all_contracts() -> dict[str, ChannelContract]:
    """By kind; a file without a `CONTRACT` is an error."""
    names = [module.name for module in pkgutil.iter_modules(contracts.__path__)]
    modules = (importlib.import_module(f"support.contracts.{name}") for name in names)
    found: list[ChannelContract] = [module.CONTRACT for module in modules]
    return {contract.kind: contract for contract in found}


def configurable_kinds() -> set[str]:
    """By what the configuration takes."""
    return {get_args(member)[1].tag for member in get_args(get_args(ReceiverSettings)[0])}


def settings_model(kind: str) -> Any:
    return next(one.settings for one in KINDS if one.name == kind)


def some_links(folder: Path) -> SignedLinks:
    links = SignedLinks(EXTERNAL_URL)
    links.begin(folder)
    return links


async def send_once(channel: Channel, message: Notification | None = None) -> Outcome:
    """What comes of one message; the channel is closed after it."""
    try:
        return await channel.send(message or notification(), NEW_YEAR_MS)
    finally:
        await channel.close()


# How rows of the table of answers are asked.


def answered(*answers: Answer, **more: Any) -> Case:
    """By an HTTP server that always gives the same answer: each of these in turn."""

    async def case(contract: ChannelContract, _: Authority) -> list[Outcome]:
        found = []
        for answer in answers:
            async with WebhookSink(usual=answer) as sink:
                found.append(await send_once(contract.build(at(sink.port), **more)))
        return found

    return case


def statuses(*numbers: int, body: str = "no") -> Case:
    return answered(*(Answer(status, body=body.encode()) for status in numbers))


def behaving(behave: Behaviour, scheme: str = "http") -> Case:
    async def case(contract: ChannelContract, _: Authority) -> list[Outcome]:
        async with broken_server(behave) as port:
            return [await send_once(contract.build(at(port, scheme)))]

    return case


async def nobody_there(contract: ChannelContract, _: Authority) -> list[Outcome]:
    """One that ends the connection, and one that is not there."""
    async with broken_server(reset) as port:
        broken = await send_once(contract.build(at(port)))
    return [broken, await send_once(contract.build(at(port)))]


async def no_name(contract: ChannelContract, _: Authority) -> list[Outcome]:
    return [await send_once(contract.build("http://no-such-host.invalid:1", timeout="5s"))]


async def untrusted(contract: ChannelContract, authority: Authority) -> list[Outcome]:
    async with WebhookSink(tls=authority.server()) as sink:
        return [await send_once(contract.build(at(sink.port, "https")))]


no_tls = behaving(garbage, "https")


def at(port: int, scheme: str = "http") -> str:
    return f"{scheme}://localhost:{port}"


@asynccontextmanager
async def secret_echo(contract: ChannelContract, status: int) -> AsyncIterator[int]:
    """An HTTP server that repeats what nobody should repeat."""
    said = " ".join(sorted(contract.all_secrets)).encode()
    async with WebhookSink(usual=Answer(status, {}, said)) as sink:
        yield sink.port


def outcome_word(outcome: Outcome) -> str:
    """As docs/channels.md calls it."""
    match outcome:
        case Delivered():
            return "done"
        case RetryAt():
            return "later"
        case Permanent():
            return "never" if outcome.final else "refused"
