import asyncio
import base64
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook as Verifier

from support.authority import Authority
from support.broken_server import broken_server, drip, garbage, half_close, reset, silence
from support.exhausted import no_threads
from support.hanging_names import DOMAIN, hanging_names
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps, channel_test_notification
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_templates import OwnTemplates
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.notify.webhook.channel import Webhook
from tocsin_alerting.notify.webhook.settings import WebhookSettings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _webhook(env: dict[str, str] | None = None, **settings: Any) -> Webhook:
    data = {"type": "webhook", "timeout": "2s", **settings}
    vault = Vault(env or {}, lambda path: path.read_text("utf-8"))
    return Webhook("hook", WebhookSettings.model_validate(data), ChannelDeps(vault=vault))


async def test_the_body_arrives_and_the_signature_holds() -> None:
    now_ms = int(time.time() * 1000)  # the verifier wants a fresh one
    async with WebhookSink() as sink:
        hook = _webhook({"S": SECRET}, url=sink.url, secret_env="S", headers={"X-Team": "ml"})
        result = await hook.send(notification(), now_ms)
        (request,) = sink.requests
        await hook.close()
    assert result == Delivered(detail="HTTP 200: ok")
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-team"] == "ml"
    assert Verifier(SECRET).verify(request.body, dict(request.headers)) == request.json()
    assert request.json()["tocsin"]["incident"] == 42


async def test_a_template_makes_the_body_and_one_that_fails_holds_up_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "room.json").write_text('{"say": {{ what | tojson }}, "n": {{ incident }}}')
    (tmp_path / "odd.json").write_text("{{ nobody_knows }}")
    templates = MessageTemplates(own=OwnTemplates(tmp_path))
    deps = ChannelDeps(vault=Vault({}, lambda path: ""), templates=templates)
    async with WebhookSink() as sink:
        for name in ("room.json", "odd.json"):
            data = {"type": "webhook", "url": sink.url, "template": name}
            hook = Webhook("hook", WebhookSettings.model_validate(data), deps)
            await hook.send(notification(), NEW_YEAR_MS)
            await hook.close()
        own, ours = (request.json() for request in sink.requests)
    assert own == {"say": "The engine at 127.0.0.1:8000 does not answer", "n": 42}
    assert ours["version"] == "4"
    missing = WebhookSettings.model_validate({**data, "template": "gone.json"})
    with pytest.raises(ValueError, match=r'"gone.json" is no file .* are: odd.json, room.json'):
        Webhook("hook", missing, deps)
    with pytest.raises(ValidationError, match="give one of format and template"):
        WebhookSettings.model_validate({**data, "format": "cloudevents"})


async def test_the_link_arrives_and_is_in_no_transcript(tmp_path: Path) -> None:
    links = SignedLinks("https://phone.example")
    links.begin(tmp_path)
    url = links.url(notification())
    deps = ChannelDeps(vault=Vault({}, lambda path: ""), links=links)
    said: list[str] = []
    async with WebhookSink(Answer(500, {}, f"I got {url}".encode())) as sink:
        settings = WebhookSettings.model_validate({"type": "webhook", "url": sink.url})
        hook = Webhook("hook", settings, deps)
        result = await hook.send(notification(), NEW_YEAR_MS, said)
        await hook.close()
    assert sink.requests[0].json()["tocsin"]["answerURL"] == url
    assert "I got https://phone.example/links/***" in str(result)
    assert url.rpartition("/")[2] not in str((result, said))


async def test_a_retry_has_the_same_id_and_a_new_time() -> None:
    async with WebhookSink(Answer(503)) as sink:
        hook = _webhook({"S": SECRET}, url=sink.url, secret_env="S")
        assert isinstance(await hook.send(notification(), NEW_YEAR_MS), RetryAt)
        assert isinstance(await hook.send(notification(), NEW_YEAR_MS + 5_000), Delivered)
        await hook.send(notification(key="another"), NEW_YEAR_MS)
    first, second, third = (request.headers for request in sink.requests)
    assert first["webhook-id"] == second["webhook-id"] != third["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 5


async def test_a_token_and_headers_from_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken-t0ken\n")
    (tmp_path / "key").write_text("k3y\n")
    async with WebhookSink() as sink:
        (tmp_path / "url").write_text(f"{sink.url}?key=abcdef\n")
        hook = _webhook(
            url_file=str(tmp_path / "url"),
            bearer_token_file=str(tmp_path / "token"),
            header_files={"X-Key": str(tmp_path / "key")},
        )
        assert isinstance(await hook.send(notification(), NEW_YEAR_MS), Delivered)
    (request,) = sink.requests
    assert request.path == "/hook?key=abcdef"
    assert request.headers["authorization"] == "Bearer t0ken-t0ken"
    assert request.headers["x-key"] == "k3y"


async def test_retry_after_is_honoured() -> None:
    async with WebhookSink(Answer(429, {"Retry-After": "30"}, b"slow down")) as sink:
        result = await _webhook(url=sink.url).send(notification(), NEW_YEAR_MS)
    assert result == RetryAt("HTTP 429: slow down", NEW_YEAR_MS + 30_000)


async def test_a_redirect_is_not_followed() -> None:
    async with WebhookSink() as other, WebhookSink() as sink:
        sink.answers.append(Answer(307, {"Location": other.url}))
        result = await _webhook(url=sink.url).send(notification(), NEW_YEAR_MS)
    assert isinstance(result, Permanent) and other.requests == []


async def test_each_message_has_a_connection_of_its_own() -> None:
    async with WebhookSink(Answer(200, {"Connection": "keep-alive"})) as sink:
        hook = _webhook(url=sink.url)
        results = [await hook.send(notification(), NEW_YEAR_MS) for _ in range(3)]
    assert all(isinstance(result, Delivered) for result in results)


async def test_tls_is_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with WebhookSink(tls=authority.server()) as sink:
        refused = await _webhook(url=sink.url).send(notification(), NEW_YEAR_MS)
        trusted = _webhook(url=sink.url, ca_file=str(authority.ca_file))
        blind = _webhook(url=sink.url, insecure_skip_verify=True)
        assert isinstance(refused, Permanent) and "ca_file" in refused.error
        assert isinstance(await trusted.send(notification(), NEW_YEAR_MS), Delivered)
        assert isinstance(await blind.send(notification(), NEW_YEAR_MS), Delivered)
    async with WebhookSink(tls=authority.server("other.example")) as sink:
        hook = _webhook(url=sink.url, ca_file=str(authority.ca_file))
        assert isinstance(await hook.send(notification(), NEW_YEAR_MS), Permanent)


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
BROKEN = {
    "reset": reset,
    "silence": silence,
    "half-closed": half_close,
    "garbage": garbage,
    "slow loris": drip(b"HTTP/1.1 200 OK\r\n", b"X: ", b"y", for_ever=True),
    "endless header": drip(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 65536, pause_s=0, for_ever=True),
    "bad length": drip(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "switching": drip(b"HTTP/1.1 101 Switching Protocols\r\n", b"\r\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_receiver_is_for_later_and_bounded(kind: str) -> None:
    began = time.monotonic()
    async with broken_server(BROKEN[kind]) as port:
        hook = _webhook(url=f"http://127.0.0.1:{port}/", timeout="500ms")
        result = await hook.send(notification(), NEW_YEAR_MS)
    assert isinstance(result, RetryAt | Permanent) and time.monotonic() - began < 20
    assert isinstance(result, RetryAt) or kind == "switching"


@pytest.mark.parametrize(
    "answer",
    [
        drip(OK_HEAD, b"x" * 65536, pause_s=0, for_ever=True),
        drip(OK_HEAD, b"x", for_ever=True),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ],
)
async def test_a_taken_message_stays_taken_whatever_the_body_does(answer: Any) -> None:
    began = time.monotonic()
    async with broken_server(answer) as port:
        hook = _webhook(url=f"http://127.0.0.1:{port}/", timeout="500ms")
        result = await hook.send(notification(), NEW_YEAR_MS)
    assert isinstance(result, Delivered) and len(result.detail) <= 320
    assert time.monotonic() - began < 20


async def test_nobody_there(unused_tcp_port: int) -> None:
    result = await _webhook(url=f"http://127.0.0.1:{unused_tcp_port}/").send(notification(), 0)
    assert isinstance(result, RetryAt) and str(unused_tcp_port) in result.error


async def test_an_unknown_host() -> None:
    result = await _webhook(url="http://nowhere.invalid/").send(notification(), NEW_YEAR_MS)
    assert isinstance(result, RetryAt)


async def test_many_at_once() -> None:
    async with WebhookSink() as sink:
        hook = _webhook(url=sink.url)
        pages = [notification(key=str(n)) for n in range(50)]
        results = await asyncio.gather(*(hook.send(page, NEW_YEAR_MS) for page in pages))
        await hook.close()
    assert all(isinstance(result, Delivered) for result in results) and len(sink.requests) == 50


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "http://", "x", "http://a b/", "http://h:99999/", "http://h/\n"]
)
def test_an_unusable_url_is_refused_unseen(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        _webhook({"U": url or " "}, url_env="U")
    assert "correct it" in str(refused.value)


@pytest.mark.parametrize(
    "headers", [{"a b": "x"}, {"Host": "x"}, {"X": "a\r\nB: c"}, {"X": "é"}, {"": "x"}]
)
def test_headers_that_http_cannot_carry(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        _webhook(url="http://h/", headers=headers)


@pytest.mark.parametrize("settings", [{}, {"url": "http://a/", "url_env": "U"}])
def test_exactly_one_url(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one of url"):
        _webhook({"U": "http://a/"}, **settings)


async def test_a_refusal_in_the_body_of_a_200_is_not_delivered() -> None:
    body = b'{"errcode": 40008, "errmsg": "invalid message type"}'
    async with WebhookSink(Answer(200, body=body)) as sink:
        hook = _webhook(url=sink.url)
        result = await hook.send(notification(), NEW_YEAR_MS)
        await hook.close()
    assert isinstance(result, Permanent) and "40008" in result.error


async def test_a_trial_warns_of_a_host_that_reads_other_bodies() -> None:
    transcript: list[str] = []
    hook = _webhook(url="http://qyapi.weixin.qq.com.:1/send?key=secret-key", timeout="100ms")
    await hook.send(notification(), NEW_YEAR_MS, transcript)
    await hook.close()
    assert any("WeCom accepts only its own body format" in line for line in transcript)
    assert "secret-key" not in "\n".join(transcript)


async def test_names_that_hang_hold_up_no_other_receiver() -> None:
    """All lookups shared a few threads, and each attempt took one of them."""
    with hanging_names() as asked:
        hung = [_webhook(url=f"http://h{n}{DOMAIN}/", timeout="50ms") for n in range(8)]
        for _ in range(3):
            tried = [hook.send(notification(), NEW_YEAR_MS) for hook in hung]
            results = await asyncio.gather(*tried)
        async with WebhookSink() as sink:
            hook = _webhook(url=f"http://localhost:{sink.port}/", timeout="20s")
            assert isinstance(await hook.send(notification(), NEW_YEAR_MS), Delivered)
            await hook.close()
        for one in hung:
            await one.close()
    assert all(isinstance(one, RetryAt) for one in results)
    assert set(asked.values()) == {1} and len(asked) == 8


async def test_a_name_of_a_proxy_that_hangs_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://proxy{DOMAIN}:3128")
    with hanging_names() as asked:
        hook = _webhook(url="http://a.example/", timeout="50ms", proxy_from_environment=True)
        for _ in range(8):
            assert isinstance(await hook.send(notification(), NEW_YEAR_MS), RetryAt)
        await hook.close()
    assert asked == {f"proxy{DOMAIN}": 1}


async def test_a_receiver_that_began_needs_no_thread_when_there_is_room_for_none() -> None:
    async with WebhookSink() as sink:
        named = _webhook(url=f"http://localhost:{sink.port}/")
        named.begin()
        with no_threads():
            by_address = _webhook(url=f"http://127.0.0.1:{sink.port}/")
            by_address.begin()
            for hook in (named, by_address):
                assert isinstance(await hook.send(notification(), NEW_YEAR_MS), Delivered)
                await hook.close()
            with pytest.raises(RuntimeError, match="can't start new thread"):
                _webhook(url="http://localhost/").begin()
            unbegun = _webhook(url="http://localhost/")
            result = await unbegun.send(notification(), NEW_YEAR_MS)
            assert isinstance(result, RetryAt) and "no thread to look up" in result.error


async def test_a_receiver_that_is_gone_says_where_it_was() -> None:
    async with WebhookSink(Answer(410, body=b"bye"), Answer(410)) as sink:
        hook, same = _webhook(url=sink.url), _webhook(url=sink.url)
        moved = _webhook(url=f"{sink.url}/moved")
        gone = await hook.send(notification(), NEW_YEAR_MS)
        transcript: list[str] = []
        tested = await same.send(
            channel_test_notification("hook", "", NEW_YEAR_MS), NEW_YEAR_MS, transcript
        )
        for one in (hook, same, moved):
            await one.close()
    assert gone == Permanent("HTTP 410: bye", final=True, gone=hook.address_mark())
    assert isinstance(tested, Permanent) and tested.gone == gone.gone
    assert moved.address_mark() != gone.gone and "hook" not in gone.gone
    assert gone.gone not in "\n".join(transcript)


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_a_cloud_event_is_one_to_the_reference_library(mode: str) -> None:
    http = pytest.importorskip("cloudevents.v1.http", reason="cloudevents is not installed")
    sent = notification(external_url='http://gpu-1.example/机器 "%', at_ms=NEW_YEAR_MS + 2_500)
    async with WebhookSink() as sink:
        hook = _webhook(url=sink.url, format="cloudevents", cloudevents=mode)
        for _ in range(2):
            assert isinstance(await hook.send(sent, NEW_YEAR_MS), Delivered)
        await hook.close()
    events = [http.from_http(dict(one.headers), one.body) for one in sink.requests]
    event, again = events
    assert event["specversion"] == "1.0" and event["type"] == "tocsin.incident.opened"
    assert event["id"] == again["id"] and event["subject"] == "incidents/42"
    assert event["time"] == "2026-01-01T00:00:02.500Z"
    assert unquote(event["source"]) == 'http://gpu-1.example/机器 "%'
    assert event.data["tocsin"]["incident"] == 42 and event.data["version"] == "4"
    assert event["datacontenttype"] == "application/json" or mode == "binary"


async def test_a_standard_event_has_type_time_and_data() -> None:
    async with WebhookSink() as sink:
        hook = _webhook({"S": SECRET}, url=sink.url, format="standard_webhooks", secret_env="S")
        now_ms = int(time.time() * 1000)
        await hook.send(notification(), now_ms)
        await hook.close()
    (request,) = sink.requests
    body = Verifier(SECRET).verify(request.body, dict(request.headers))
    assert body["type"] == "incident.opened" and body["timestamp"] == "2026-01-01T00:00:02.000Z"
    assert body["data"]["tocsin"]["incident"] == 42 and set(body) == {"type", "timestamp", "data"}


async def test_keys_change_over_without_a_message_that_does_not_verify(tmp_path: Path) -> None:
    old = "whsec_" + base64.b64encode(b"the key that was there before it").decode()
    (tmp_path / "new").write_text(SECRET)
    (tmp_path / "old").write_text(old)
    async with WebhookSink() as sink:
        files = [str(tmp_path / name) for name in ("new", "old")]
        hook = _webhook(url=sink.url, secret_files=files)
        await hook.send(notification(), int(time.time() * 1000))
        await hook.close()
    (request,) = sink.requests
    for secret in (SECRET, old):
        assert Verifier(secret).verify(request.body, dict(request.headers)) == request.json()


@pytest.mark.parametrize(
    "settings",
    [
        {"secret_env": "S", "secret_files": ["a"]},
        {"secret_env": "S", "secret_file": "a"},
        {"format": "xml"},
        {"secret_files": list("abcde")},
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebhookSettings.model_validate({"type": "webhook", "url": "http://a", **settings})
