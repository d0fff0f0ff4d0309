"""What `check` says of P0 that depends on one thing, and of receivers not seen to work."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import load
from tocsin_alerting.config.way_lint import advice, never_seen_to_work, single_way
from tocsin_alerting.notify.secret import Vault

NOW_MS = 1_796_468_400_000
DAY_MS = 86_400_000
FIRST = """
contacts:
  me: {email: me@example.com}
smtp: {smarthost: "smtp.example.com:587", from: me@example.com}
"""
ENV = {"HOOK": "https://hooks.example.net/b", "BOT": "123456789:" + "A" * 35}
VAULT = Vault(ENV, lambda path: path.read_text())


def loaded(folder: Path, text: str) -> Config:
    path = folder / "tocsin.yml"
    path.write_text(f"storage: {{path: {folder}}}\n{text}")
    return load(path, ENV, local_mail=lambda sender, to: "")


def ways(folder: Path, text: str) -> list[str]:
    return list(single_way(loaded(folder, text), VAULT))


def p0(*names: str) -> str:
    listed = ", ".join(f"{{receiver: {name}}}" for name in names)
    return f"policies: {{P0: {{steps: [{{notify: [{listed}]}}]}}}}\n"


HOOKS = """
receivers:
  a: {type: webhook, url: "https://hooks.example.net/a"}
  b: {type: webhook, url_env: HOOK}
  c: {type: webhook, url: "https://other.example.org/c"}
"""


def test_a_first_configuration_is_told_nothing(tmp_path: Path) -> None:
    assert list(advice(loaded(tmp_path, FIRST), VAULT, NOW_MS)) == []
    assert list(advice(loaded(tmp_path, ""), VAULT, NOW_MS)) == [], "the log pages nobody: said"


def test_one_of_several_receivers(tmp_path: Path) -> None:
    assert ways(tmp_path, HOOKS + p0("a")) == [
        "P0 goes out by a alone, though there are other receivers: while that does not work nobody"
        " is paged; add one of them to the policy P0"
    ]
    assert ways(tmp_path, HOOKS + p0("a", "c")) == []


def test_several_receivers_of_one_host(tmp_path: Path) -> None:
    (warning,) = ways(tmp_path, HOOKS + p0("a", "b"))
    assert warning.startswith("P0 goes out by a, b, all of them through hooks.example.net: ")


def test_several_receivers_of_one_service(tmp_path: Path) -> None:
    pushes = """
receivers:
  a: {type: telegram, token_env: BOT, chat_id: 1}
  b: {type: telegram, token_env: BOT, chat_id: 2}
  own: {type: telegram, token_env: BOT, chat_id: 3, api_url: "https://bots.example.org"}
"""
    (warning,) = ways(tmp_path, pushes + p0("a", "b"))
    assert warning.startswith("P0 goes out by a, b, all of them through telegram: ")
    assert ways(tmp_path, pushes + p0("a", "own")) == []


def journal(folder: Path, *lines: tuple[int, str, str]) -> None:
    with closing(sqlite3.connect(folder / "incidents.db")) as connection, connection:
        connection.execute("DROP TABLE IF EXISTS history")
        connection.execute("CREATE TABLE history (ts_ms BIGINT, event TEXT, data_json TEXT)")
        rows = [(at, event, f'{{"receiver": "{name}"}}') for at, event, name in lines]
        connection.executemany("INSERT INTO history VALUES (?, ?, ?)", rows)


def test_what_nothing_was_delivered_by_in_thirty_days(tmp_path: Path) -> None:
    config = loaded(tmp_path, HOOKS + p0("a", "c"))
    assert list(never_seen_to_work(config, NOW_MS)) == [], "no journal"
    old, lately = NOW_MS - 31 * DAY_MS, NOW_MS - 29 * DAY_MS
    journal(tmp_path, (old, "opened", ""), (old, "delivered", "a"), (lately, "delivered", "c"))
    found = list(never_seen_to_work(config, NOW_MS))
    assert [one.partition(" by it")[0] for one in found] == [
        'receiver "a": nothing was delivered',
        'receiver "b": nothing was delivered',
    ], "b is in the policies of all other severities"
    journal(tmp_path, (old, "opened", ""), (lately, "delivery_retry", "c"))
    assert len(list(never_seen_to_work(config, NOW_MS))) == 3


def test_a_young_journal_and_a_broken_one_say_nothing(tmp_path: Path) -> None:
    config = loaded(tmp_path, HOOKS + p0("a", "c"))
    journal(tmp_path, (NOW_MS - 29 * DAY_MS, "opened", ""))
    assert list(never_seen_to_work(config, NOW_MS)) == []
    journal(tmp_path)
    assert list(never_seen_to_work(config, NOW_MS)) == []
    (tmp_path / "incidents.db").write_bytes(b"this is no database at all, whatever its name")
    assert list(never_seen_to_work(config, NOW_MS)) == []
