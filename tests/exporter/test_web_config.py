"""A web configuration while it is served: read again, refused, and what it adds to answers."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from support.web_pki import Pki
from tocsin_exporter.basic_auth import PasswordCheck
from tocsin_exporter.threads import Threads
from tocsin_exporter.web_config import LiveWebConfig, WebConfig, WebConfigured

HASH = bcrypt.hashpw(b"one", bcrypt.gensalt(4)).decode()


class Files:
    """A configuration that is read from one file: its users, or what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "web.yml"
        self.reads = 0
        self.changes: dict[str, Any] = {}
        self.write("li")

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self.reads_at = os.stat(self.file).st_mtime_ns + 1_000_000
        os.utime(self.file, ns=(self.reads_at, self.reads_at))

    def load(self) -> WebConfig:
        self.reads += 1
        text = self.file.read_text()
        if text.startswith("bad"):
            raise ValueError(f"web.yml:1:1: {text}")
        config = WebConfig(users=dict.fromkeys(text.split(), HASH), files=(self.file,))
        return replace(config, **self.changes)


def test_it_is_read_again_when_its_file_changes_and_not_else(tmp_path: Path) -> None:
    files = Files(tmp_path)
    live = LiveWebConfig(files.load)
    for _ in range(3):
        live.look()
    assert files.reads == 1
    files.write("mei")
    live.look()
    assert list(live.users()) == ["mei"] and files.reads == 2


def test_a_bad_one_leaves_the_old_one_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files = Files(tmp_path)
    live = LiveWebConfig(files.load)
    files.write("bad key")
    for _ in range(3):
        live.look()
    assert list(live.users()) == ["li"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the old one holds: web.yml:1:1: bad key" in errors[0].getMessage()
    files.write("bad other")
    live.look()
    assert "bad other" in caplog.text
    files.file.unlink()
    live.look()
    assert list(live.users()) == ["li"]
    files.write("mei")
    live.look()
    assert list(live.users()) == ["mei"]
    assert "web configuration read again" in caplog.text


def test_what_failed_is_tried_again_although_no_known_file_changed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    live = LiveWebConfig(files.load)
    files.write("bad key")
    live.look()
    reads = files.reads
    live.look()
    assert files.reads == reads + 1


def test_tls_is_not_turned_on_or_off_on_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path)
    live = LiveWebConfig(files.load)
    files.changes = {"tls": Pki().server()}
    files.write("mei")
    live.look()
    assert live.tls is None and list(live.users()) == ["li"]
    assert "takes a restart" in caplog.text


def test_a_first_one_that_is_bad_is_an_error(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write("bad key")
    with pytest.raises(ValueError, match="bad key"):
        LiveWebConfig(files.load)


async def inner(scope: Any, receive: Any, send: Any) -> None:
    who = Request(scope).headers.get("host", "")
    await PlainTextResponse(f"seen {who}", headers={"x-frame-options": "own"})(scope, receive, send)


def serving(
    config: WebConfig,
    clock: Callable[[], float] = lambda: 0.0,
    wrapped: ASGIApp = inner,
    server: tuple[str, int | None] = ("127.0.0.1", 80),
) -> TestClient:
    live = LiveWebConfig(lambda: config)
    auth = PasswordCheck(live.users, clock, Threads(1, "bcrypt"))
    app = WebConfigured(wrapped, live, clock, auth)

    async def with_server(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": server}, receive, send)

    return TestClient(with_server)


def test_headers_are_on_every_answer_and_come_first() -> None:
    config = WebConfig(headers=((b"x-frame-options", b"deny"),), users={"li": HASH})
    client = serving(config)
    for answer in (client.get("/"), client.get("/", auth=("li", "one")), client.get("/-/healthy")):
        assert answer.headers.get_list("x-frame-options") == ["deny"]


def test_users_alone_get_in_as_with_exporter_toolkit_and_health_is_for_all() -> None:
    client = serving(WebConfig(users={"li": HASH}))
    assert client.get("/metrics", auth=("li", "one")).text == "seen testserver"
    for auth in (None, ("li", "two"), ("mei", "one")):
        answer = client.get("/metrics", auth=auth)
        assert answer.status_code == 401 and answer.text == "Unauthorized\n"
        assert answer.headers["www-authenticate"] == "Basic"
    assert client.get("/-/healthy").status_code == 200
    told = [client.get("/", auth=("li", f"{n}")).status_code for n in range(30)]
    assert told.count(429) >= 10 and told[-1] == 429
    assert client.get("/", auth=("li", "one")).status_code == 200


def test_without_users_nobody_is_asked() -> None:
    assert serving(WebConfig()).get("/").status_code == 200


def test_a_rate_is_a_bucket_that_fills_and_neither_health_nor_the_socket_count() -> None:
    now = [0.0]
    client = serving(WebConfig(rate=(0.5, 3)), lambda: now[0])
    told = [client.get("/").status_code for _ in range(5)]
    assert told == [200, 200, 200, 429, 429]
    assert client.get("/").headers["retry-after"] == "1"
    assert client.get("/-/ready").status_code == 200
    now[0] = 0.5
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]
    now[0] = 100.0
    assert [client.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]
    local = serving(WebConfig(rate=(0.5, 1)), server=("/run/agent.sock", None))
    assert [local.get("/").status_code for _ in range(3)] == [200] * 3


def test_no_hash_is_shown() -> None:
    assert HASH not in repr(WebConfig(users={"li": HASH}))
