"""What holds for every channel: it is registered, it never raises, it never tells a secret."""

import base64
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, get_args

import pytest

from support.broken_server import broken_server, drip, garbage, reset
from support.mailbox import Mailbox
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.deps import ChannelDeps
from tocsin_alerting.notify.registry import CHANNELS, ReceiverSettings
from tocsin_alerting.notify.secret import Vault

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PASSWORD, TOKEN, QUERY = "hunter2-and-more", "t0ken-of-ours", "query-key-of-ours"
SIGNING = "whsec_" + base64.b64encode(b"a signing key of 28 bytes ..").decode()
SECRETS = {
    "email": {
        PASSWORD,
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(f"\0tocsin\0{PASSWORD}".encode()).decode(),
    },
    "webhook": {
        TOKEN,
        QUERY,
        SIGNING,
        "basic-pass-word",
        base64.b64encode(b"user:basic-pass-word").decode(),
    },
    "apprise": {PASSWORD, QUERY},
    "log": set[str](),
}
SAID = {kind: " ".join(sorted(secrets)).encode() for kind, secrets in SECRETS.items()}

SENDER: dict[str, Any] = {"from": "a@example.com"}


def _build(kind: str, more: Mapping[str, str] | None = None, **settings: Any) -> Channel:
    env = {"PW": PASSWORD, "TOKEN": TOKEN, "SIGN": SIGNING, **(more or {})}
    deps = ChannelDeps(vault=Vault(env, lambda path: path.read_text("utf-8")))
    model = next(
        arguments[0]
        for member in get_args(get_args(ReceiverSettings)[0])
        if (arguments := get_args(member))[1].tag == kind
    )
    return CHANNELS[kind]("ops", model.model_validate({"type": kind, **settings}), deps)


def _webhook(port: int) -> Channel:
    return _build(
        "webhook",
        url=f"http://user:basic-pass-word@127.0.0.1:{port}/services/{QUERY}?key={QUERY}",
        bearer_token_env="TOKEN",
        secret_env="SIGN",
        timeout="500ms",
    )


def _email(port: int) -> Channel:
    return _build(
        "email",
        {},
        **SENDER,
        smarthost=f"127.0.0.1:{port}",
        to=["b@example.com"],
        tls="none",
        username="tocsin",
        password_env="PW",
        timeout="500ms",
    )


def _apprise(port: int) -> Channel:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    return _build(
        "apprise", {"URL": f"json://u:{PASSWORD}@127.0.0.1:{port}/{QUERY}"}, url_env="URL"
    )


@asynccontextmanager
async def _http_echo(status: int) -> AsyncIterator[int]:
    async with WebhookSink(usual=Answer(status, {}, SAID["webhook"])) as sink:
        yield sink.port


@asynccontextmanager
async def _smtp_echo(code: str) -> AsyncIterator[int]:
    """A server that repeats what nobody should repeat."""
    refusal = f"{code} no: ".encode() + SAID["email"] + b"\r\n"
    hello = (b"220 hi\r\n", b"250-hello\r\n250 AUTH PLAIN\r\n")
    async with broken_server(drip(*hello, refusal, pause_s=0.05)) as port:
        yield port


@asynccontextmanager
async def _wrong_password() -> AsyncIterator[int]:
    async with Mailbox(users={"tocsin": "another"}) as box:
        yield box.port


FAILURES: dict[str, tuple[Callable[[int], Channel], Callable[[], Any], str]] = {
    "webhook 200": (_webhook, lambda: _http_echo(200), "HTTP 200"),
    "webhook 400": (_webhook, lambda: _http_echo(400), "HTTP 400"),
    "webhook 500": (_webhook, lambda: _http_echo(500), "HTTP 500"),
    "webhook reset": (_webhook, lambda: broken_server(reset), "RetryAt"),
    "webhook garbage": (_webhook, lambda: broken_server(garbage), "RetryAt"),
    "webhook echo": (
        _webhook,
        lambda: broken_server(drip(SAID["webhook"])),
        "RetryAt",
    ),
    "email refused": (_email, lambda: _smtp_echo("535"), "535"),
    "email later": (_email, lambda: _smtp_echo("454"), "454"),
    "email password": (_email, _wrong_password, "535"),
    "email reset": (_email, lambda: broken_server(reset), "RetryAt"),
    "email garbage": (_email, lambda: broken_server(drip(SAID["email"] + b"\r\n")), "RetryAt"),
    "apprise 500": (_apprise, lambda: _http_echo(500), "RetryAt"),
    "apprise reset": (_apprise, lambda: broken_server(reset), "RetryAt"),
    "log": (lambda port: _build("log"), lambda: broken_server(reset), "logged"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_no_secret_in_an_error_a_repr_a_transcript_or_a_log(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    build, serve, said = FAILURES[name]
    transcript: list[str] = []
    async with serve() as port:
        channel = build(port)
        result = await channel.send(notification(), NEW_YEAR_MS, transcript)
        await channel.close()
    assert isinstance(result, Delivered | RetryAt | Permanent)
    # The test's own server logs what it hears.
    logged = [one.getMessage() for one in caplog.records if not one.name.startswith("mail.")]
    shown = "\n".join([repr(channel), str(channel), repr(result), *transcript, *logged])
    assert [secret for secret in SECRETS[name.split()[0]] if secret in shown] == []
    assert transcript and said in repr(result)


def test_every_kind_can_be_configured() -> None:
    kinds = {get_args(member)[1].tag for member in get_args(get_args(ReceiverSettings)[0])}
    assert kinds == set(CHANNELS)


def test_every_kind_has_failures_to_show() -> None:
    assert {name.split()[0] for name in FAILURES} == set(CHANNELS)
