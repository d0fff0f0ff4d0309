"""`alertctl token` on the file; with an agent it is in stories/test_roles.py."""

import json
import os
from pathlib import Path

import pytest

from support.command_line import alertctl
from tocsin_alerting.api.http.tokens import TokenFile, digest


def test_what_is_printed_is_the_token_and_the_file_has_its_hash(tmp_path: Path) -> None:
    ended = alertctl("token", "add", "grafana", "--role", "read", "--storage.path", str(tmp_path))
    assert (ended.code, ended.err) == (0, "")
    (token,) = TokenFile(tmp_path / "tokens.json").read()
    assert (token.name, token.role, token.sha256) == ("grafana", "read", digest(ended.out.strip()))
    assert token.created.startswith("20") and token.created.endswith("Z")


def test_the_list_is_a_table_or_json(tmp_path: Path) -> None:
    where = ("--storage.path", str(tmp_path))
    assert alertctl("token", "list", *where).err == "no tokens\n"
    alertctl("token", "add", "a", "--role", "admin", *where)
    header, row = alertctl("token", "list", *where).out.splitlines()
    assert (header.split(), row.split()[:2]) == (["NAME", "ROLE", "CREATED"], ["a", "admin"])
    data = json.loads(alertctl("token", "list", "-o", "json", *where).out)
    assert [entry["role"] for entry in data["tokens"]] == ["admin"]


def test_what_is_revoked_is_gone(tmp_path: Path) -> None:
    where = ("--storage.path", str(tmp_path))
    alertctl("token", "add", "a", "--role", "admin", *where)
    assert alertctl("token", "revoke", "a", *where).out == "a: revoked\n"
    again = alertctl("token", "revoke", "a", *where)
    assert (again.code, again.err) == (1, 'alertctl: no token is called "a"\n')


@pytest.mark.parametrize("words", [("add", "a", "--role", "read"), ("list",), ("revoke", "a")])
def test_a_damaged_file_is_an_error_in_words(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "tokens.json").write_text("{")
    ended = alertctl("token", *words, "--storage.path", str(tmp_path))
    assert ended.code == 1
    assert ended.err.startswith("alertctl: ") and "is damaged" in ended.err


def test_who_says_no_role_gets_the_least(tmp_path: Path) -> None:
    alertctl("token", "add", "a", "--storage.path", str(tmp_path))
    assert [token.role for token in TokenFile(tmp_path / "tokens.json").read()] == ["read"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_what_root_writes_belongs_to_the_agents_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    alertctl("token", "add", "a", "--role", "read", "--storage.path", str(tmp_path))
    for file in tmp_path.iterdir():
        about = file.stat()
        assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (12345, 12345, 0o600), file


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_somebody_else_is_told_whose_directory_it_is(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    os.chown(tmp_path, 12345, 12345)
    os.seteuid(54321)
    try:
        ended = alertctl("token", "list", "--storage.path", str(tmp_path))
    finally:
        os.seteuid(0)
    assert ended.code in (1, 2) and "token" not in ended.out
