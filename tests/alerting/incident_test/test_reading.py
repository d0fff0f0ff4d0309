"""What is wrong in an incident test is said at its place, with what to do."""

from pathlib import Path

import pytest

from support.command_line import alertctl
from support.incident_tests import POLICY, run_text, text_of
from tocsin_alerting.yaml_document import InvalidDocument

PAGE = "{at: 1m, page: {}}"


def problems(folder: Path, text: str, policy: str = POLICY) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        run_text(folder, text, policy)
    return [f"{one.line}:{one.column}: {one.message}" for one in caught.value.problems]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("at: 1m, akc: {a: b}", 'unknown key "akc" in an action; did you mean "ack"?'),
        ("at: 1m", "an action must say one of ack, unack, "),
        ("ack: {a: b}", '"at" is missing; write a time like 5m'),
        ("at: soon, ack: {a: b}", '"at": not a valid duration string: "soon"'),
        ("at: 1m, ack: {a: b}, from: li", 'unknown key "from" in ack; known are at, ack, by, note'),
        ("at: 1m, ack: {}", '"ack" must say which incident, by labels like'),
        ("at: 1m, ack: Down", "labels must be a mapping, not text"),
        ("at: 1m, ack: {a: b}, unack: {a: b}", 'unknown key "unack" in ack'),
        ("at: 1m, snooze: {a: b}", 'it must end: add "for" or "until"'),
        ("at: 1m, snooze: {a: b}, for: 1h, until: 2h", "say for or until, not both"),
        ("at: 1h, snooze: {a: b}, until: 30m", 'must be after "at"'),
        ("at: 1m, escalate: {a: b}, step: one", '"step" must be a whole number, not one'),
        ("at: 1m, assign: {a: b}", 'assign needs "to"'),
        ("at: 1m, assign: {a: b}, to: lee", 'there is no contact "lee" in '),
        ("at: 1m, silence: [], for: 1h", '"silence" needs matchers, as '),
        ("at: 1m, silence: ['a'], for: 1h", 'matcher a: write it as name="value"'),
        ("at: 1m, silence: ['a=b'], for: 1h, id: A!", '"id" must be small letters'),
        ("at: 1m, expire: sil", 'no silence has the id "sil"'),
        ("at: 1m, channel: romm, hangs: {}", 'there is no receiver "romm" in '),
        ("at: 1m, channel: room", "say one of fails, hangs and works of the channel"),
        ("at: 1m, channel: room, works: false", '"works" must be true'),
        ("at: 1m, channel: room, fails: {status: 200}", '"status" must be a reply that fails'),
        ("at: 1m, channel: room, hangs: {status: 500}", 'unknown key "status" in hangs'),
        ("at: 1m, channel: room, fails: {times: -1}", '"times" must not be negative'),
        ("at: 1m, restart: {downfor: 1m}", 'in a restart; did you mean "down_for"?'),
        ("at: 1m, clock: yesterday", '"clock" must be a step like 1h or -30m'),
        ("at: 1m, clock: -1s", "is drift, which is followed slowly"),
        ("at: 1m, override: primary, for: 1h", 'override needs "to"'),
        ("at: 1m, override: primry, to: li, for: 1h", 'there is no schedule "primry" in '),
    ],
)
def test_actions(tmp_path: Path, action: str, said: str) -> None:
    found = problems(tmp_path, text_of(f"[{PAGE}]", f"[{{{action}}}]"))
    assert any(said in one for one in found), found
    assert all(one.startswith("11:") for one in found)


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("at: 1m, pge: {}", 'unknown key "pge" in an expectation; did you mean "page"?'),
        ("at: 1m", "an expectation must say one of page, no_page, "),
        ("page: {}", '"at" is missing'),
        ("at: 2m..1m, page: {}", '"at": 2m..1m ends before it begins'),
        ("at: 1m..x, page: {}", '12:23: "at": not a valid duration string: "x"'),
        ("at: 1m, page: {contct: li}", 'unknown key "contct" in page; did you mean "contact"?'),
        ("at: 1m, page: {contact: lee}", 'there is no contact "lee" in '),
        ("at: 1m, page: {via: fone}", 'there is no way "fone" in '),
        ("at: 1m, no_page: {receiver: ops}", 'there is no receiver "ops" in '),
        ("at: 1m, page: {reason: open}", '"reason" must be one of opened, '),
        ("at: 1m, page: {severity: P9}", '"severity" must be one of P0, P1'),
        ("at: 1m, resolved: {reason: opened}", 'unknown key "reason" in resolved'),
        ("at: 1m, pages_total: {}", "pages_total needs min, max or both"),
        ("at: 1m, incident: {state: ACKED}", "incident must say which one, by alertname or labels"),
        ("at: 1m..2m, incident: {alertname: A}", "is looked at in one moment"),
        ("at: 1m, incident: {alertname: A, state: acked}", 'not "acked"; did you mean "ACKED"?'),
        ("at: 1m, incident: {alertname: A, policy: p0}", 'there is no policy "p0" in '),
        ("at: 1m, no_incident: {alertname: A, state: ACKED}", 'unknown key "state"'),
    ],
)
def test_expectations(tmp_path: Path, expect: str, said: str) -> None:
    found = problems(tmp_path, text_of(f"[{{{expect}}}]"))
    assert any(said in one for one in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (text_of("[]"), "11:5: an incident_test without expect finds nothing"),
        (text_of(f"[{PAGE}]").replace("tocsin.yml", "no.yml"), "7:16: there is no file no.yml"),
        (text_of(f"[{PAGE}]", block="start: noon"), '10:12: "noon" is neither Unix seconds nor'),
        (text_of(f"[{PAGE}]", block="stat: 1"), 'unknown key "stat" in an incident_test; did you'),
        (text_of(f"[{PAGE}]", more="match: some"), '"match" must be one of exact, subset'),
        (text_of(f"[{PAGE}]").replace("policy_file", "policyfile"), 'did you mean "policy_file"?'),
        (
            "tests: [{policy_file: tocsin.yml}]",
            "policy_file is for incident_test, which is missing",
        ),
        (
            text_of(
                f"[{PAGE}]",
                "[{at: 1m, silence: a=b, for: 1h}, {at: 2m, silence: c=d, for: 1h}]",
            ),
            'two silences have the id "silence"; give this one another "id"',
        ),
    ],
)
def test_the_block(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in one for one in problems(tmp_path, text)), problems(tmp_path, text)


def test_a_configuration_that_is_wrong_is_said_at_its_place(tmp_path: Path) -> None:
    found = problems(tmp_path, text_of(f"[{PAGE}]"), "langauge: en\n")
    assert found == ['1:1: unknown key "langauge"; did you mean "language"?']


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # by apprise
def test_secrets_and_mail_servers_need_not_be_there(tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    policy = """
contacts: {li: {email: li@example.com}}
receivers:
  a: {type: webhook, url_env: NO_SUCH_VARIABLE, secret_file: none.txt}
  c: {type: apprise, url_env: NONE_EITHER}
  b: {type: webhook, url_file: none.url, headers: {}, header_files: {Authorization: none.token}}
"""
    outcome = run_text(tmp_path, text_of("[{at: 0s, page: {receiver: b}}]"), policy)
    assert outcome.failures == []


def test_heartbeats_that_are_expected_count_as_sent(tmp_path: Path) -> None:
    policy = (
        POLICY
        + """
heartbeats:
  expected:
    backup: {every: 1m, token_file: none.txt}
    other: {every: 1m, token_env: NO_SUCH_VARIABLE}
"""
    )
    text = text_of("[{at: 1h, pages_total: {max: 4}}, {at: 1h, pages_total: {min: 4}}]")
    assert run_text(tmp_path, text, policy).failures == []


def test_alertctl_check_finds_the_same(tmp_path: Path) -> None:
    text = text_of("[{at: 1m, page: {contact: lee}}, {at: 2m, page: {contact: lee}}]")
    run_text(tmp_path, text_of(f"[{PAGE}]"))
    (tmp_path / "one.test.yml").write_text(text)
    ended = alertctl("check", str(tmp_path / "one.test.yml"))
    assert ended.code == 1
    assert ended.err.count('there is no contact "lee" in ') == 2
    (tmp_path / "one.test.yml").write_text(text_of(f"[{PAGE}]"))
    assert alertctl("check", str(tmp_path / "one.test.yml")).code == 0
