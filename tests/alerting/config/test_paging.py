"""What a configuration that is right may still not do: page a person."""

from pathlib import Path

import pytest

from tocsin_alerting.config.load import load
from tocsin_alerting.config.paging import nobody_paged, notes, unwatched, warnings
from tocsin_alerting.notify.secret import Vault

VAULT = Vault(
    {
        "URL": "https://oapi.dingtalk.com/robot/send?access_token=abcdef",
        "APPRISE": "json://127.0.0.1:9/",
    },
    Path.read_text,
)
NOW_MS = 1_796_468_400_000  # Saturday 2026-12-05, 11:00 UTC
HOOK = "receivers: {hook: {type: webhook, url: 'https://example.com/'}, log: {type: log}}\n"
LOG_ONLY = "{steps: [{notify: [{receiver: log}]}]}"


def _warned(folder: Path, text: str) -> list[str]:
    path = folder / "tocsin.yml"
    path.write_text(text)
    config = load(path, VAULT.env, local_mail=lambda sender, to: "none")
    return warnings(config, VAULT, NOW_MS)


QUIET = {
    "a webhook": HOOK,
    "mail": "contacts: {li: {email: l@example.com}}\nsmtp: {smarthost: mx}",
    "P2 on the log": HOOK + f"policies: {{P2: {LOG_ONLY}}}",
    "a route of a severity": HOOK + "routes: [{match: ['a=\"b\"'], policy: P0}, {}]",
    "a quiet route that tells another": HOOK
    + f"policies: {{q: {LOG_ONLY}}}\nroutes: [{{policy: q, receivers_add: [hook]}}]",
    "the log first, people later": HOOK
    + "policies: {P0: {steps: [{notify: [{receiver: log}], escalate_after: 1m},"
    " {notify: [{receiver: hook}]}]}}",
}


@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_said_where_people_are_paged(tmp_path: Path, name: str) -> None:
    assert _warned(tmp_path, QUIET[name]) == []


LOUD = {
    "nothing at all": ("evaluation_interval: 1s", "nobody is paged: every message goes to the log"),
    "smtp and no contact": ("smtp: {smarthost: mx}", "nobody is paged: "),
    "no rules": (HOOK + "rule_files: []", "rule_files is empty: only alerts that others"),
    "a glob without a file": (
        HOOK + "rule_files: ['nope*.yml', bundled]",
        "rule_files: no file matches /",
    ),
    "a container's id": (
        HOOK + "instance: 3f2a9c1b7d4e",
        "instance: 3f2a9c1b7d4e looks like a container id",
    ),
    "P0 on the log": (HOOK + f"policies: {{P0: {LOG_ONLY}}}", "P0 pages nobody"),
    "P1 on the log": (HOOK + f"policies: {{P1: {LOG_ONLY}}}", "P1 pages nobody"),
    "a route to the log": (
        HOOK + f"policies: {{q: {LOG_ONLY}}}\nroutes: [{{policy: q}}]",
        "route 1 pages nobody: policy q notifies only the log",
    ),
    "contacts beside a webhook": (
        HOOK + "contacts: {li: {email: l@example.com}}",
        "no mail server for li",
    ),
    "a contact on the log": (
        HOOK + "contacts: {li: {ways: {chat: log}}}",
        "li get no notifications: their ways lead to the log",
    ),
    "a robot by a variable": (
        "receivers: {r: {type: webhook, url_env: URL}}",
        'receiver "r": DingTalk does not accept webhook bodies: it answers 200 and refuses in the'
        " response, so no page arrives; use type: dingtalk",
    ),
}


@pytest.mark.parametrize("name", LOUD)
def test_what_pages_nobody_is_said(tmp_path: Path, name: str) -> None:
    text, expected = LOUD[name]
    said = _warned(tmp_path, text)
    assert len(said) == 1 and said[0].startswith(expected), said
    assert "abcdef" not in said[0]


# apprise imports it
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_alone_is_not_enough_for_p0(tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    alone = "receivers: {a: {type: apprise, url_env: APPRISE}}"
    assert _warned(tmp_path, alone)[0].startswith("P0 goes out by apprise alone")


def test_nobody_paged_hides_no_other_warning(tmp_path: Path) -> None:
    said = _warned(tmp_path, "instance: 3f2a9c1b7d4e\nrule_files: ['nope*.yml']")
    assert [one.split(":")[0] for one in said] == ["nobody is paged", "rule_files", "instance"]


def test_a_user_who_has_left_is_told_and_is_no_reason_not_to_start(tmp_path: Path) -> None:
    text = HOOK + "discovery: {allow_users: [rooot, root, 1234567, ' ']}"
    first, second = _warned(tmp_path, text)
    assert 'this machine has no user "rooot"' in first and 'mean "root"?' in first
    assert 'no user " "' in second and "correct it, or give the user's number" in second
    config = load(tmp_path / "tocsin.yml", VAULT.env, local_mail=lambda sender, to: "none")
    assert config.discovery.user_ids() == {0, 1234567}


def test_without_a_file_nobody_is_paged() -> None:
    assert nobody_paged(load(None))


ALONE = "nobody is paged if this machine dies; set heartbeats.out (docs/heartbeats.md)"
LINKS = {
    HOOK: "127.0.0.1:4911",
    HOOK + "web: {listen_address: '127.0.0.2:21011'}": "127.0.0.2:21011",
    HOOK + "web: {listen_address: '[::1]:21011'}": "[::1]:21011",
    HOOK + "web: {listen_address: 'localhost:21011'}": "localhost:21011",
    HOOK + "web: {listen_address: ':4911'}": None,
    HOOK + "web: {listen_address: '0.0.0.0:4911'}": None,
    HOOK + "web: {listen_address: '10.0.0.5:4911'}": None,
    HOOK + "external_url: 'https://tocsin.example.com/'": None,
    "receivers: {log: {type: log}}": None,
}


@pytest.mark.parametrize("text", LINKS)
def test_links_that_only_this_machine_can_follow_are_noted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(text)
    config = load(path, VAULT.env, local_mail=lambda sender, to: "none")
    said = [note for note in notes(config) if note != ALONE]
    address = LINKS[text]
    assert len(said) == (address is not None)
    for note in said:
        port = (address or "").rpartition(":")[2]
        assert note.startswith("links in messages point to http://") and f":{port}, and" in note
        assert f"listens on {address}, which only this machine can reach" in note
        assert note.endswith("; set external_url")


def test_the_addresses_of_the_command_line_count(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(HOOK)
    config = load(path, VAULT.env)
    assert notes(config, ["127.0.0.1:4911", "10.0.0.5:4911"]) == [ALONE]
    assert "127.0.0.1:1, [::1]:1, which only" in notes(config, ["127.0.0.1:1", "[::1]:1"])[1]


def test_until_something_outside_hears_it_nobody_is_paged_if_the_machine_dies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(HOOK)
    assert ALONE in notes(load(path, VAULT.env))
    assert unwatched(load(None)) == ALONE and notes(load(None)) == []
    path.write_text(HOOK + "heartbeats: {out: [{url: 'https://hc.example/1'}]}")
    assert ALONE not in notes(load(path, VAULT.env)) and unwatched(load(path, VAULT.env)) == ""
