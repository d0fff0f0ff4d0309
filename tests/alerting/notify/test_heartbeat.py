"""The ping, by real HTTP."""

import asyncio
from pathlib import Path

import pytest

from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.config.load import build_heartbeats, load
from tocsin_alerting.notify.heartbeat import HeartbeatPing
from tocsin_alerting.yaml_document import InvalidDocument

SECRET = "8d1d2f3a-secret"


def ping(folder: Path, section: str) -> HeartbeatPing:
    path = folder / "tocsin.yml"
    path.write_text(f"heartbeats: {{out: [{section}]}}\n")
    config = load(path, {"URL": f"http://127.0.0.1:9/{SECRET}"})
    (built,) = build_heartbeats(config, {"URL": f"http://127.0.0.1:9/{SECRET}"})
    built.begin()
    return built


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("GET", b"")])
async def test_what_arrives(tmp_path: Path, method: str, body: bytes) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    async with WebhookSink() as sink:
        url = f"http://127.0.0.1:{sink.port}/ping/{SECRET}?status=up"
        one = ping(
            tmp_path, f'{{url: "{url}", method: {method}, every: 30s, bearer_token_file: token}}'
        )
        assert one.every_s == 30
        assert await one.send() == "" and await one.send() == ""
        await one.close()
    first, _ = sink.requests
    assert (first.method, first.path, first.body) == (method, f"/ping/{SECRET}?status=up", body)
    assert first.headers["authorization"] == "Bearer t0ken"


async def test_why_it_failed_says_no_secret(tmp_path: Path) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    answer = Answer(404, body=f"no such check {SECRET}".encode())
    async with WebhookSink(answer, silent) as sink:
        url = f"http://127.0.0.1:{sink.port}/{SECRET}"
        one = ping(tmp_path, f'{{url: "{url}"}}')
        refused = await one.send()
        await one.close()
        impatient = ping(tmp_path, f'{{url: "{url}", timeout: 200ms}}')
        late = await impatient.send()
        await impatient.close()
    assert "HTTP 404 no such check" in refused and "no response within 0.2 s" in late
    nobody = ping(tmp_path, "{url_env: URL}")
    unheard = await nobody.send()
    await nobody.close()
    assert unheard.startswith("http://127.0.0.1:9: ")
    assert SECRET not in f"{refused}{late}{unheard}{nobody!r}{one!r}"


WRONG: dict[str, tuple[str, str]] = {
    "no address": ("{every: 1m}", "give exactly one of url, url_file and url_env"),
    "no URL": ('{url: "watch.example"}', "the URL is not one like"),
    "a key that is none": ('{url: "http://a", evry: 1m}', 'did you mean "every"?'),
    "a file that is not there": ("{url_file: nowhere}", "nowhere: No such file"),
    "a variable that is not set": ("{url_env: NOWHERE}", "NOWHERE is not set"),
    "a token in the file": ('{url: "http://a", bearer_token: x}', "bearer_token_file"),
    "never": ('{url: "http://a", every: 0s}', "must be longer than 0s"),
    "a certificate that is none": ('{url: "https://a", ca_file: tocsin.yml}', "tocsin.yml"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    section, expected = WRONG[name]
    with pytest.raises(InvalidDocument) as raised:
        ping(tmp_path, section)
    said = str(raised.value)
    assert "tocsin.yml:1:" in said, said
    assert expected in said


def test_the_file_holds_the_address_and_no_page_shows_it(tmp_path: Path) -> None:
    (tmp_path / "heartbeat.url").write_text(f"https://hc.example/{SECRET}\n")
    one = ping(tmp_path, "{url_file: heartbeat.url}")
    assert one.every_s == 60 and repr(one) == "HeartbeatPing(https://hc.example)"
    asyncio.run(one.close())
