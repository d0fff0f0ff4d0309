"""Requests of channels: what comes of them, and that no secret is told, by real servers."""

import json
from pathlib import Path

import pytest

from support.authority import Authority
from support.broken_server import broken_server, reset, silence
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpSender,
    HttpSettings,
    SendFailed,
    ServiceUrl,
    json_request,
)

NOW_MS = 1_767_225_600_000


def sender(url: str, *secrets: str, **settings: object) -> HttpSender:
    return HttpSender("ops", HttpSettings.model_validate(settings), url, secrets)


def by_status(answer: HttpAnswer, now_ms: int) -> Outcome:
    return answer.outcome(now_ms)


async def test_what_is_sent_arrives_and_what_is_answered_is_read() -> None:
    async with WebhookSink(usual=Answer(200, {"X-Id": "7"}, b'{"ok": true}')) as sink:
        post = sender(sink.url)
        seen: list[HttpAnswer] = []

        def read(answer: HttpAnswer, now_ms: int) -> Outcome:
            seen.append(answer)
            return Delivered(reference=answer.headers["x-id"])

        request = json_request(sink.url, {"a": "ä"}, {"X-Ours": "1"}, "PUT")
        outcome = await post.send(request, NOW_MS, None, read)
        await post.close()
    assert outcome == Delivered(reference="7")
    assert seen[0].json() == {"ok": True}
    got = sink.requests[0]
    assert (got.method, got.headers["x-ours"], json.loads(got.body)) == ("PUT", "1", {"a": "ä"})


async def test_secrets_that_the_other_side_repeats_are_masked_in_outcome_and_transcript() -> None:
    said = b"no: t0ken-of-ours, and one-of-this-message"
    async with WebhookSink(usual=Answer(400, {}, said)) as sink:
        post, transcript = sender(sink.url, "t0ken-of-ours"), list[str]()
        request = json_request(sink.url, {})
        outcome = await post.send(request, NOW_MS, transcript, by_status, ["one-of-this-message"])
        await post.close()
    assert outcome == Permanent("HTTP 400: no: ***, and ***")
    assert transcript[1:] == ["< HTTP 400 no: ***, and ***", "! HTTP 400: no: ***, and ***"]


@pytest.mark.parametrize(
    "said",
    ["123:t0ken/of=ours", "123%3At0ken%2Fof%3Dours", r"123:t0ken\/of=ours", "one-of-this-message"],
)
async def test_whoever_cuts_an_answer_leaves_no_half_of_a_secret(said: str) -> None:
    def cutting(answer: HttpAnswer, now_ms: int) -> Outcome:
        return Permanent(answer.text[: 3 + len(said) // 2])

    async with WebhookSink(usual=Answer(400, {}, b"no " + said.encode())) as sink:
        post = sender(sink.url, "123:t0ken/of=ours")
        request = json_request(sink.url, {})
        outcome = await post.send(request, NOW_MS, None, cutting, ["one-of-this-message"])
        await post.close()
    assert outcome == Permanent("no ***")


async def test_a_secret_as_short_as_a_word_takes_no_answer_away() -> None:
    """As the end of a URL may be."""
    async with WebhookSink(usual=Answer(200, {}, b"ok")) as sink:
        post, read = sender(sink.url, "ok"), list[str]()

        def reading(answer: HttpAnswer, now_ms: int) -> Outcome:
            read.append(answer.text)
            return answer.outcome(now_ms)

        await post.send(json_request(sink.url, {}), NOW_MS, None, reading)
        await post.close()
    assert read == ["ok"]


@pytest.mark.parametrize("trouble", [silence, reset])
async def test_no_answer_is_worth_another_try(trouble: object) -> None:
    async with broken_server(trouble) as port:  # type: ignore[arg-type]
        url = f"http://127.0.0.1:{port}/path-that-is-secret"
        post = sender(url, timeout="200ms")
        outcome = await post.send(json_request(url, {}), NOW_MS, None, by_status)
        with pytest.raises(SendFailed) as failed:
            await post.ask(json_request(url, {}))
        await post.close()
    assert isinstance(outcome, RetryAt)
    assert "secret" not in outcome.error + str(failed.value)
    assert f"127.0.0.1:{port}" in outcome.error


async def test_retry_after_says_when() -> None:
    async with WebhookSink(usual=Answer(429, {"Retry-After": "7"}, b"")) as sink:
        post = sender(sink.url)
        outcome = await post.send(json_request(sink.url, {}), NOW_MS, None, by_status)
        await post.close()
    assert outcome == RetryAt("HTTP 429", NOW_MS + 7000)


async def test_a_client_certificate_is_shown_to_a_server_that_asks(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.server()
    server.load_verify_locations(authority.ca_file)
    server.verify_mode = server.verify_mode.CERT_REQUIRED
    files = authority.client_files(tmp_path)
    async with WebhookSink(tls=server) as sink:
        ca = {"ca_file": str(authority.ca_file), "timeout": "3s"}
        bare, known = sender(sink.url, **ca), sender(sink.url, **ca, **files)
        refused = await bare.send(json_request(sink.url, {}), NOW_MS, None, by_status)
        taken = await known.send(json_request(sink.url, {}), NOW_MS, None, by_status)
        await bare.close()
        await known.close()
    assert isinstance(refused, RetryAt | Permanent)
    assert isinstance(taken, Delivered)


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="key_file needs cert_file"):
        HttpSettings.model_validate({"key_file": "a.key"})


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", "[" * 100_000])
def test_a_body_that_is_no_object_is_none(text: str) -> None:
    assert HttpAnswer(200, text).json() is None


class _Served(HttpSettings):
    """A channel with a service's address."""

    api_url: ServiceUrl


@pytest.mark.parametrize("url", ["https://u:p@h/", "https://h/?key=1", "https://h/#a", "h"])
def test_the_address_of_a_service_holds_no_secret(url: str) -> None:
    with pytest.raises(ValueError, match="have keys of their own|not one like"):
        _Served.model_validate({"api_url": url})
    assert _Served.model_validate({"api_url": "https://h:1/proxy"}).api_url == "https://h:1/proxy"


async def test_an_address_without_a_path_is_no_secret_in_its_own_errors() -> None:
    async with broken_server(reset) as port:
        post = sender(f"http://127.0.0.1:{port}")
        request = json_request(f"http://127.0.0.1:{port}/v2", {})
        outcome = await post.send(request, NOW_MS, None, by_status)
        await post.close()
    assert isinstance(outcome, RetryAt)
    assert outcome.error.startswith(f"http://127.0.0.1:{port}: ")
