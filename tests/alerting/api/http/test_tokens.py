"""The file of tokens: hashes alone, private, and never half written."""

import hashlib
import json
import re
import stat
import threading
from pathlib import Path

import pytest

from tocsin_alerting.api.http.tokens import MOST_TOKENS, ApiToken, InvalidTokens, TokenFile, digest

NOW = "2026-11-29T00:00:00.000Z"


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


def test_a_token_is_shown_once_and_its_hash_is_kept(file: TokenFile) -> None:
    text = file.add("grafana", "read", NOW)
    assert re.fullmatch(r"tocsin_[A-Za-z0-9_-]{43}", text)
    assert file.read() == (ApiToken("grafana", "read", digest(text), NOW),)
    assert text not in file.path.read_text() and text.removeprefix("tocsin_") not in str(file)
    assert digest(text) == hashlib.sha256(text.encode()).hexdigest()


def test_no_two_tokens_are_equal(file: TokenFile) -> None:
    assert len({file.add(str(number), "read", NOW) for number in range(20)}) == 20


def test_the_file_is_private(file: TokenFile) -> None:
    file.add("a", "read", NOW)
    file.add("b", "read", NOW)
    for path in file.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_without_a_file_there_are_none(file: TokenFile) -> None:
    assert file.read() == ()


def test_what_is_revoked_is_gone_and_the_others_stay(file: TokenFile) -> None:
    for name in ("a", "b", "c"):
        file.add(name, "respond", NOW)
    file.revoke("b")
    assert [token.name for token in file.read()] == ["a", "c"]
    with pytest.raises(InvalidTokens, match='no token is called "b"'):
        file.revoke("b")


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "-a", "é", "a" * 65, "a\n", "../x"])
def test_a_name_is_plain(file: TokenFile, name: str) -> None:
    with pytest.raises(InvalidTokens, match="invalid name"):
        file.add(name, "read", NOW)
    assert not file.path.exists()


@pytest.mark.parametrize("role", ["", "god", "READ", "metrics", "health"])
def test_a_role_is_one_of_three(file: TokenFile, role: str) -> None:
    with pytest.raises(InvalidTokens, match="read, respond, admin"):
        file.add("a", role, NOW)


def test_a_name_is_given_once(file: TokenFile) -> None:
    file.add("a", "read", NOW)
    with pytest.raises(InvalidTokens, match="already"):
        file.add("a", "admin", NOW)
    assert [token.role for token in file.read()] == ["read"]


def test_there_is_a_bound(file: TokenFile) -> None:
    rows = [
        {"name": str(n), "role": "read", "sha256": digest(str(n)), "created": NOW}
        for n in range(MOST_TOKENS)
    ]
    file.path.write_text(json.dumps({"version": 1, "tokens": rows}))
    with pytest.raises(InvalidTokens, match="revoke some"):
        file.add("extra", "read", NOW)


def test_two_who_add_at_once_lose_nothing(file: TokenFile) -> None:
    def add(kind: str) -> None:
        for number in range(10):
            TokenFile(file.path).add(f"{kind}{number}", "read", NOW)

    threads = [threading.Thread(target=add, args=(kind,)) for kind in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file.read()) == 30


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", "null", '{"version": 1}', '{"version": 2, "tokens": []}',
     '{"version": 1, "tokens": [{}]}', '{"version": 1, "tokens": 5}',
     '{"version": 1, "tokens": [{"name": "a", "role": "god", "sha256": "00"}]}',
     '{"version": 1, "tokens": [{"name": "a", "role": "admin", "sha256": ""}]}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_refused_and_kept(file: TokenFile, text: str) -> None:
    file.path.write_text(text)
    with pytest.raises(InvalidTokens, match=r"tokens\.json"):
        file.read()
    with pytest.raises(InvalidTokens):
        file.add("a", "read", NOW)
    assert file.path.read_text() == text


def test_bytes_that_are_no_text_are_refused(file: TokenFile) -> None:
    file.path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidTokens):
        file.read()


def test_what_a_later_version_adds_is_read_over(file: TokenFile) -> None:
    row = {"name": "a", "role": "read", "sha256": digest("a"), "expires": "2027"}
    file.path.write_text(json.dumps({"version": 1, "tokens": [row], "more": 1}))
    assert file.read() == (ApiToken("a", "read", digest("a"), ""),)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidTokens, match="cannot write"):
        TokenFile(tmp_path / "gone" / "tokens.json").add("a", "read", NOW)
