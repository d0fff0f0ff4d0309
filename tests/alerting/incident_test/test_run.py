"""What is done in an incident test happens at its time, by the stages of the agent."""

from pathlib import Path

import pytest

from support.incident_tests import POLICY, failures, run_text, text_of

ACK = "[{at: 5m, ack: {alertname: Down}, by: li}]"


def test_what_comes_as_expected_fails_nothing(tmp_path: Path) -> None:
    expect = """[
    {at: 0s, page: {contact: li, via: email, receiver: mail, reason: opened, step: 0}},
    {at: 0s, page: {receiver: room, severity: P0, alertname: Down, contains: "a is down"}},
    {at: 0s..14m59s, no_page: {contact: wang}},
    {at: 15m, page: {contact: wang, via: phone, reason: escalated, step: 1, times: 1}},
    {at: 1h, pages_total: {min: 4, max: 4}},
    {at: 1h, incident: {alertname: Down, state: TRIGGERED, number: 1, muted: false}},
    {at: 1h, no_incident: {alertname: Up}}]"""
    assert run_text(tmp_path, text_of(expect)).failures == []


@pytest.mark.parametrize(
    ("expect", "got"),
    [
        ("{at: 1s, page: {contact: li}}", "none"),
        ("{at: 0s, page: {contact: wang}}", "none"),
        ("{at: 0s, page: {receiver: phone}}", "none"),
        ("{at: 0s, page: {contact: li, via: phone}}", "none"),
        ("{at: 0s, page: {reason: escalated}}", "none"),
        ("{at: 0s, page: {severity: P1}}", "none"),
        ("{at: 15m, page: {step: 0}}", "none"),
        ("{at: 0s, page: {contains: nothing of this}}", "none"),
        ("{at: 0s, page: {alertname: Up}}", "none"),
        ("{at: 0s, page: {contact: li, times: 2}}", "1, at 0s"),
        ("{at: 0s, resolved: {}}", "none"),
        ("{at: 0s..1h, no_page: {contact: wang}}", "2, at 15m, 15m"),
        ("{at: 20m, pages_total: {max: 3}}", "4, at 0s, 0s, 15m, 15m"),
        ("{at: 20m, pages_total: {min: 5}}", "4, at 0s, 0s, 15m, 15m"),
        ("{at: 10m..20m, pages_total: {min: 3}}", "2, at 15m, 15m"),
        ("{at: 1m, incident: {alertname: Up}}", "no such incident"),
        ("{at: 1m, incident: {alertname: Down, state: ACKED}}", "#1 with state TRIGGERED"),
        (
            "{at: 16m, incident: {alertname: Down, step: 0, owner: li, muted: true}}",
            "#1 with owner nobody, step 1, muted false",
        ),
        ("{at: 1m, incident: {alertname: Down, policy: P1}}", "#1 with policy P0"),
        ("{at: 1m, incident: {alertname: Down, source: unknown}}", "#1 with source firing"),
        ("{at: 1m, no_incident: {alertname: Down}}", "#1, which is TRIGGERED"),
    ],
)
def test_what_does_not_come_is_missed(tmp_path: Path, expect: str, got: str) -> None:
    (missed,) = failures(tmp_path, f"[{expect}]")
    assert missed.startswith("12:14: expected at ") and missed.endswith(f"; got {got}")


def test_who_acknowledges_stops_the_escalation(tmp_path: Path) -> None:
    expect = """[{at: 10m, incident: {alertname: Down, state: ACKED, owner: li}},
    {at: 5m, page: {receiver: room, reason: acked}}, {at: 15m, page: {reason: ack_remind}},
    {at: 0s..34m59s, no_page: {contact: wang}}, {at: 35m, page: {reason: ack_expired}}]"""
    assert failures(tmp_path, expect, ACK) == []


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("ack: {alertname: Up}", "there is no such incident at that time"),
        ("unack: {alertname: Down}", "incident #1 is TRIGGERED: it is not acknowledged"),
        ("silence: ['a=~\".*\"'], for: 1h", "it would silence every alert"),
    ],
)
def test_what_cannot_be_done_fails_at_its_place(tmp_path: Path, action: str, why: str) -> None:
    expect = "[{at: 0s, page: {contact: li}}]"
    (failed,) = failures(tmp_path, expect, f"[{{at: 1m, {action}}}]")
    assert failed.startswith("11:15: ") and why in failed and failed.endswith("(at 1m)")


TWO = "{series: 'down{severity=\"P0\", target=\"b\"}', values: '1x9'}"


def test_the_incident_is_found_by_its_labels(tmp_path: Path) -> None:
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '1x99'}, " + TWO
    expect = """[{at: 2m, incident: {labels: {target: b}, state: ACKED}},
    {at: 2m, incident: {labels: {target: a}, state: TRIGGERED}}]"""
    action = "[{at: 1m, ack: {target: b}, by: li}]"
    assert failures(tmp_path, expect, action, series=series) == []
    expect, action = "[{at: 1m, page: {reason: acked}}]", "[{at: 1m, ack: {alertname: Down}}]"
    first, _ = failures(tmp_path, expect, action, series=series)
    assert "2 incidents match (#1 Down target=a, #2 Down target=b); name more labels" in first


@pytest.mark.parametrize(
    ("actions", "expect"),
    [
        (
            "{at: 5m, ack: {target: a}, by: li}, {at: 6m, unack: {target: a}, by: li}",
            "{at: 6m, page: {contact: li, reason: unacked}}, {at: 21m, page: {contact: wang}}",
        ),
        (
            "{at: 5m, snooze: {target: a}, for: 1h}",
            "{at: 1s..1h4m59s, no_page: {}}, {at: 1h5m, page: {reason: snooze_end}}",
        ),
        (
            "{at: 5m, snooze: {target: a}, until: 30m}",
            "{at: 30m, page: {contact: li, reason: snooze_end}}",
        ),
        (
            "{at: 5m, resolve: {target: a}, cause: a cable, by: li}",
            "{at: 6m, incident: {alertname: Down, state: RESOLVED}},"
            " {at: 20m, page: {reason: still_firing}}, {at: 0s..1h, no_resolved: {}}",
        ),
        ("{at: 5m, escalate: {target: a}, by: li}", "{at: 5m, page: {contact: wang, step: 1}}"),
        (
            "{at: 16m, escalate: {target: a}, step: 0, by: li}",
            "{at: 16m, page: {contact: li, step: 0, reason: manual}}",
        ),
        (
            "{at: 5m, assign: {target: a}, to: wang, by: li}",
            "{at: 5m, page: {contact: wang, reason: assigned}},"
            " {at: 6m, incident: {alertname: Down, owner: wang}}",
        ),
        (
            "{at: 5m, comment: {target: a}, note: hm, fields: {cause: x}}",
            "{at: 6m, incident: {alertname: Down, state: TRIGGERED}}",
        ),
        (
            "{at: 5m, silence: ['target=\"a\"'], for: 1h, by: li}",
            "{at: 1s..1h4m59s, no_page: {}}, {at: 1h5m, page: {contact: li, reason: unmuted}},"
            " {at: 50m, page: {reason: silence_ends, contact: li}}",
        ),
        (
            "{at: 5m, silence: 'target=\"a\"', until: 2h, id: s}, {at: 1h, expire: s, by: li}",
            "{at: 1s..59m59s, no_page: {}}, {at: 1h, page: {contact: li, reason: unmuted}}",
        ),
        (
            "{at: 5m, silence: ['target=\"a\"'], until_resolved: true}",
            "{at: 1s..8h, no_page: {}}",
        ),
        (
            "{at: 5m, maintenance: ['target=\"a\"'], for: 1h}",
            "{at: 6m, incident: {alertname: Down, muted: true}}, {at: 1h5m, page: {}}",
        ),
        (
            "{at: 5m, maintenance: ['target=~\".+\"'], except: ['target=\"a\"'], for: 1h}",
            "{at: 6m, incident: {alertname: Down, muted: false}}, {at: 15m, page: {}}",
        ),
    ],
)
def test_what_people_do(tmp_path: Path, actions: str, expect: str) -> None:
    assert failures(tmp_path, f"[{expect}]", f"[{actions}]") == []


@pytest.mark.parametrize(
    ("trouble", "expect"),
    [
        (
            "channel: room, fails: {status: 503, times: 2}",
            "{at: 0s, no_page: {receiver: room}}, {at: 1s..4s, page: {receiver: room}}",
        ),
        (
            "channel: room, fails: {for: 10m}",
            "{at: 0s..9m59s, no_page: {receiver: room}}, {at: 10m..11m, page: {receiver: room}}",
        ),
        (
            "channel: room, fails: {status: 429, retry_after: 7m, times: 1}",
            "{at: 0s..6m59s, no_page: {receiver: room}}, {at: 7m, page: {receiver: room}}",
        ),
        (
            "channel: phone, fails: {status: 503, for: 15m}",  # over when the step is due
            "{at: 15m, page: {contact: wang, via: phone}}",
        ),
        (
            "channel: room, hangs: {until: 1m}",
            "{at: 0s..1m, no_page: {receiver: room}}, {at: 1m..3m, page: {receiver: room}}",
        ),
        (
            "channel: room, hangs: {times: 1}",
            "{at: 0s..10s, no_page: {receiver: room}}, {at: 10s..12s, page: {receiver: room}}",
        ),
        (
            "channel: mail, fails: {status: 451, times: 1}",
            "{at: 0s, no_page: {contact: li}}, {at: 0s..3s, page: {contact: li, step: 0}}",
        ),
        (
            "channel: mail, fails: {status: 550, times: 1}",  # refused: tried later all the same
            "{at: 0s..10s, no_page: {contact: li, via: email}},"
            " {at: 10s..20s, page: {contact: li, via: email}}",
        ),
        (
            "channel: room, fails: {}}, {at: 3m, channel: room, works: true",
            "{at: 0s..2m59s, no_page: {receiver: room}}, {at: 3m..4m, page: {receiver: room}}",
        ),
    ],
)
def test_a_channel_fails_as_it_would(tmp_path: Path, trouble: str, expect: str) -> None:
    assert failures(tmp_path, f"[{expect}]", f"[{{at: 0s, {trouble}}}]") == []


def test_a_step_of_which_every_page_is_refused_is_followed_by_the_next(tmp_path: Path) -> None:
    actions = """[{at: 0s, channel: room, fails: {status: 403}},
    {at: 0s, channel: phone, fails: {status: 403, times: 1}},
    {at: 0s, channel: mail, fails: {status: 550, times: 1}}]"""
    assert failures(tmp_path, "[{at: 30s, page: {contact: wang, step: 1}}]", actions) == []


def test_a_kill_loses_nothing_and_what_was_due_is_sent_once(tmp_path: Path) -> None:
    actions = """[{at: 1m, silence: ['target="b"'], for: 1h}, {at: 5m, restart: {down_for: 20m}},
    {at: 26m, ack: {target: a}, by: li}, {at: 27m, restart: {}}]"""
    expect = """[{at: 25m, page: {contact: wang, via: phone, reason: escalated, times: 1}},
    {at: 1m..24m59s, no_page: {}},
    {at: 30m, incident: {alertname: Down, number: 1, state: ACKED, owner: li}}]"""
    assert failures(tmp_path, expect, actions) == []


def test_nothing_is_read_while_the_agent_is_down(tmp_path: Path) -> None:
    """What came in between is not looked back upon, and what comes then is."""
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '0x23 1x4 _x90 1x9'}"
    expect = "[{at: 0s..29m, no_page: {}}, {at: 29m..31m, page: {contact: li, reason: opened}}]"
    actions = "[{at: 5m, restart: {down_for: 3m}}]"
    assert failures(tmp_path, expect, actions, series=series) == []


def test_a_reading_just_before_the_start_is_not_read(tmp_path: Path) -> None:
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '0x59 _ 1 _x90'}"
    expect = "[{at: 0s..10m, no_page: {}}]"
    actions = "[{at: 5m, restart: {down_for: 10s}}]"
    text = text_of(expect, actions, series=series).replace("  interval: 15s", "  interval: 5s")
    assert run_text(tmp_path, text).failures == []


def test_nobody_can_do_anything_while_the_agent_is_down(tmp_path: Path) -> None:
    actions = "[{at: 5m, restart: {down_for: 20m}}, {at: 6m, ack: {target: a}, by: li}]"
    (failed,) = failures(tmp_path, "[{at: 0s, page: {}}]", actions)
    assert "the agent is down then" in failed


def test_an_alert_that_is_over_while_the_agent_is_down_is_resolved_after_it(
    tmp_path: Path,
) -> None:
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '1x39 0x100'}"
    expect = """[{at: 20m..20m15s, resolved: {contact: li}}, {at: 0s..1h, no_page: {contact: wang}},
    {at: 30m, incident: {alertname: Down, state: RESOLVED}},
    {at: 55m, incident: {alertname: Down, state: CLOSED}}, {at: 55m, no_incident: {target: a}}]"""
    expect = expect.replace("no_incident: {target: a}", "no_incident: {labels: {target: a}}")
    actions = "[{at: 5m, restart: {down_for: 15m}}]"
    assert failures(tmp_path, expect, actions, series=series) == []


@pytest.mark.parametrize("step", ["3h", "-3h"])
def test_a_clock_that_is_set_brings_no_page_nearer(tmp_path: Path, step: str) -> None:
    expect = """[{at: 1s..14m59s, no_page: {}}, {at: 15m, page: {contact: wang, times: 2}},
    {at: 1h, incident: {alertname: Down, state: TRIGGERED}}, {at: 0s..1h, no_resolved: {}}]"""
    assert failures(tmp_path, expect, f"[{{at: 5m, clock: {step}}}]") == []


def test_who_sets_the_clock_sets_what_the_agent_sees(tmp_path: Path) -> None:
    expect = """[{at: 0s, page: {receiver: room, contains: "2026-01-01 00:00:00"}},
    {at: 15m, page: {contact: wang, contains: "2026-01-01 03:00:00"}}]"""
    actions = "[{at: 5m, clock: 3h}]"  # since then it fires, by the new clock
    assert failures(tmp_path, expect, actions) == []
    (text,) = run_text(tmp_path, text_of("[{at: 15m, page: {contact: li}}]", actions)).failures
    lines = [line.split() for line in text.splitlines() if "  got  " in line or "  act  " in line]
    shown = {at: clock for at, _, clock, *_ in lines}
    assert shown == {"0s": "00:00:00", "5m": "03:05:00", "15m": "03:15:00"}


@pytest.mark.parametrize(
    ("actions", "fires_at"),
    [
        ("[]", "10m"),
        ("[{at: 5m, restart: {down_for: 1m}}]", "10m..11m15s"),  # what it missed does not count
        ("[{at: 5m, clock: 2h}]", "10m"),
        ("[{at: 5m, clock: -2h}]", "10m"),
    ],
)
def test_what_an_alert_waits_outlives_a_kill_and_a_clock(
    tmp_path: Path, actions: str, fires_at: str
) -> None:
    series = "{series: 'slow{severity=\"P0\", target=\"a\"}', values: '1x99'}"
    expect = "[{at: 0s..9m59s, no_page: {}}, {at: AT, page: {receiver: room, alertname: Slow}}]"
    assert failures(tmp_path, expect.replace("AT", fires_at), actions, series=series) == []


SCHEDULE = POLICY.replace("{contact: li, via: email}", "{schedule: primary, via: email}")
BERLIN = "start: 2026-03-29T01:00:00+01:00"  # the night in which 02:00 is 03:00


def test_hand_over_times_are_those_of_the_wall_clock(tmp_path: Path) -> None:
    """03:30 in Berlin is half an hour after 01:00 + 1 h there, in that night."""
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '%s'}"
    for values, on_call in (("0x355 1x9", "li"), ("0x363 1x9", "wang")):
        start_of_day = {"li": "1h29m", "wang": "1h31m"}[on_call]
        expect = f"[{{at: {start_of_day}, page: {{contact: {on_call}, times: 1}}}}]"
        slots = {"li": 355, "wang": 363}[on_call]
        text = series % f"0x{slots} 1x9"
        found = failures(tmp_path, expect, series=text, block=BERLIN, policy=SCHEDULE)
        assert found == [], values


@pytest.mark.parametrize("where", ["more", "block"])
def test_a_test_begins_when_it_says(tmp_path: Path, where: str) -> None:
    """By its own key, or by that of the rules' test."""
    key = {"more": "start_timestamp", "block": "start"}[where]
    parts = {where: f"{key}: 2026-05-04T03:02:01Z"}
    expect = '[{at: 0s, page: {receiver: room, contains: "2026-05-04 03:02:01"}}]'
    assert failures(tmp_path, expect, **parts) == []
    assert len(failures(tmp_path, expect)) == 1


def test_the_newest_of_several_incidents_counts(tmp_path: Path) -> None:
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '1x9 0x200 1x99'}"
    expect = "[{at: 55m, incident: {labels: {target: a}, number: 2, state: TRIGGERED}}]"
    assert failures(tmp_path, expect, series=series) == []
    expect = "[{at: 50m, incident: {alertname: Down, number: 1, state: CLOSED}}]"
    assert failures(tmp_path, expect, series=series) == []


def test_what_a_receiver_does_not_want_is_not_got(tmp_path: Path) -> None:
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '1x9 0x200'}"
    policy = POLICY.replace(
        '"https://chat.example.com/hook"', '"https://x.y/", send_resolved: false'
    )
    expect = "[{at: 0s..1h, no_resolved: {receiver: room}}, {at: 150s, resolved: {contact: li}}]"
    assert failures(tmp_path, expect, series=series, policy=policy) == []


def test_somebody_else_takes_over(tmp_path: Path) -> None:
    series = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '0x39 1x9'}"
    for to in ("li", "wang"):
        expect = f"[{{at: 10m, page: {{contact: {to}, receiver: mail}}}}]"
        actions = f"[{{at: 1m, override: primary, to: {to}, for: 1h}}]"
        parts = {"series": series, "policy": SCHEDULE}
        assert failures(tmp_path, expect, actions, **parts) == []


def test_a_rule_that_fails_fails_the_test(tmp_path: Path) -> None:
    """From its second minute on, which the rules' own part of the test does not reach."""
    series = "{series: x, values: '1x99'}, {series: 'y{a=\"1\"}', values: '_x4 1x9'}"
    text = text_of(
        "[{at: 3m, pages_total: {max: 99}}]", series=f"{series}, {{series: y, values: 1x9}}"
    )
    rules = "groups: [{name: g, rules: [{alert: A, expr: x * on () y}]}]"
    (tmp_path / "broken.yml").write_text(rules)
    (failure,) = run_text(tmp_path, text.replace("rules.yml", "broken.yml")).failures
    assert "an action or a rule failed" in failure and "rule A: " in failure
    assert "(at 1m)" in failure


def test_the_built_in_configuration_is_used_where_none_is_named(tmp_path: Path) -> None:
    text = text_of("[{at: 0s, page: {receiver: log, reason: opened}}]")
    assert run_text(tmp_path, text.replace("policy_file: tocsin.yml", "")).failures == []


LABELS = "{alertname: Down, severity: P0, target: a}"


@pytest.mark.parametrize(
    ("match", "wanted", "right"),
    [
        ("", f"labels: {LABELS}", True),
        ("", "labels: {target: a}", False),
        ("match: subset", "labels: {target: a}", True),
        ("match: subset", "labels: {target: b}", False),
        ("", "annotations: {summary: a is down.}", True),
        ("", "annotations: {}", False),
        ("match: subset", "annotations: {}", True),
    ],
)
def test_labels_of_a_page(tmp_path: Path, match: str, wanted: str, right: bool) -> None:
    found = failures(tmp_path, f"[{{at: 0s, page: {{{wanted}}}}}]", more=match)
    assert (found == []) is right
