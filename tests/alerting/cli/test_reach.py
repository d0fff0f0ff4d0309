"""alertctl and an agent with TLS: what it believes, what it shows, what it says when that fails."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.command_line import alertctl
from support.web_pki import Pki
from tocsin_alerting.cli.reach import Reach

BODY = b'{"status":"success","data":{"alerts":[]}}'


class Server:
    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


async def run(*words: str) -> tuple[int, str, str]:
    ended = await asyncio.to_thread(alertctl, *words)
    return ended.code, ended.out, ended.err


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki()
    (tmp_path / "ca.pem").write_bytes(pki.authority)
    pair = pki.pair("alertctl.example")
    (tmp_path / "c.pem").write_bytes(pair.certificate)
    (tmp_path / "c.key").write_bytes(pair.key)
    (tmp_path / "password").write_text("one two\n")
    return pki


async def test_an_authority_is_named_or_nothing_is_asked(pki: Pki, tmp_path: Path) -> None:
    async with serving(pki.server().context) as server:
        url = f"https://127.0.0.1:{server.port}"
        code, _, err = await run("--url", url, "alerts")
        assert code == 4 and "name its authority by --ca-file" in err
        assert server.heads == []
        assert (await run("--url", url, "alerts", "--ca-file", str(tmp_path / "ca.pem")))[0] == 0
        assert (await run("alerts", "--insecure-skip-verify", "--url", url))[0] == 0


async def test_user_and_password_are_sent_before_or_after_the_command(
    pki: Pki, tmp_path: Path
) -> None:
    async with serving(pki.server().context) as server:
        words = [
            f"--url=https://127.0.0.1:{server.port}",
            f"--ca-file={tmp_path / 'ca.pem'}",
            "--username",
            "li",
            "--password-file",
            str(tmp_path / "password"),
        ]
        assert (await run(*words, "alerts"))[0] == 0
        assert (await run("alerts", *words))[0] == 0
        assert all(b"Authorization: Basic bGk6b25lIHR3bw==" in head for head in server.heads)
        assert len(server.heads) == 2


async def test_our_certificate_is_shown(pki: Pki, tmp_path: Path) -> None:
    tls = pki.server(client_auth="RequireAndVerifyClientCert", client_authorities=pki.authority)
    async with serving(tls.context) as server:
        words = [f"--url=https://127.0.0.1:{server.port}", f"--ca-file={tmp_path / 'ca.pem'}"]
        assert (await run(*words, "alerts"))[0] == 4
        own = [f"--cert-file={tmp_path / 'c.pem'}", f"--key-file={tmp_path / 'c.key'}"]
        assert (await run(*words, *own, "alerts"))[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--username", "li"], "--username and --password-file are given together"),
        (["--password-file", "{}/password"], "are given together"),
        (["--key-file", "{}/c.key"], "give both"),
        (["--username", "a:b", "--password-file", "{}/password"], "colon"),
        (
            ["--username", "a", "--password-file", "{}/password", "--token-file", "{}/password"],
            "two ways",
        ),
        (["--ca-file", "{}/password"], "holds no certificate"),
        (["--cert-file", "{}/ca.pem"], "--cert-file"),
        (["--ca-file", "{}/none"], "does not exist"),
    ],
)
async def test_wrong_usage_is_said(pki: Pki, tmp_path: Path, words: list[str], said: str) -> None:
    given = [word.format(tmp_path) for word in words]
    code, _, err = await run("--url", "https://127.0.0.1:1", *given, "alerts")
    assert code == 2 and said in err


def test_no_password_is_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    reach = Reach(username="li", password_file=tmp_path / "password")
    assert reach.login() == ("li", "hunter2") and "hunter2" not in repr(reach)
