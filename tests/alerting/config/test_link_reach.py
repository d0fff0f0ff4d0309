"""Links in messages that nobody can follow are said, with what to do; a resolver that hangs delays
nobody."""

import socket
import threading
from pathlib import Path

import pytest

from tocsin_alerting.config.link_reach import resolves_in_time, unreachable_links
from tocsin_alerting.config.load import load

CONTACT = (
    "contacts: {li: {email: li@example.com}}\n"
    "smtp: {smarthost: 'localhost:25', from: t@example.com}\n"
)


def said(folder: Path, text: str, known: bool | None = True) -> str:
    path = folder / "tocsin.yml"
    path.write_text(text)
    config = load(path, {}, local_mail=lambda sender, to: "none")
    return unreachable_links(config, (), None if known is None else lambda host: bool(known))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:4911",
        "http://127.9.9.9",
        "http://[::1]:4911/x/",
        "http://localhost:4911",
        "http://LOCALHOST./",
        "http://bell.localhost",
        "http://0.0.0.0:4911",
    ],
)
def test_an_address_of_the_reader_himself(tmp_path: Path, url: str) -> None:
    words = said(tmp_path, f"external_url: '{url}'")
    assert words.startswith(f"links in messages point to {url}, which leads each reader to his own")
    assert words.endswith("set external_url to the address by which people reach the agent")


def test_a_name_that_has_no_address(tmp_path: Path) -> None:
    text = "external_url: 'https://bell.corp.internal/tocsin'"
    words = said(tmp_path, text, known=False)
    assert "bell.corp.internal has no address here" in words and "external_url" in words
    assert said(tmp_path, text) == said(tmp_path, text, known=None) == ""
    assert said(tmp_path, "external_url: 'http://10.0.0.5:4911'", known=False) == ""


def test_unset_while_messages_go_to_people(tmp_path: Path) -> None:
    open_to_all = "web: {listen_address: ':4911'}\n"
    words = said(tmp_path, CONTACT + open_to_all)
    assert "the name that this machine has for itself" in words
    assert words.endswith("set external_url")
    assert said(tmp_path, open_to_all) == ""
    assert "which only this machine can reach" in said(tmp_path, CONTACT)
    assert said(tmp_path, CONTACT + open_to_all + "external_url: 'https://bell.example'") == ""


def test_a_resolver_that_says_nothing_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs = threading.Event()

    def silent(*_: object, **__: object) -> list[object]:
        hangs.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert resolves_in_time("bell.example", 0.01)
    hangs.set()


@pytest.mark.parametrize(
    ("number", "known"),
    [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True), (socket.EAI_MEMORY, True)],
)
def test_only_a_name_that_is_not_there_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch, number: int, known: bool
) -> None:
    def refuses(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", refuses)
    assert resolves_in_time("bell.example") is known
    assert not resolves_in_time("a" * 70 + ".example") or known
