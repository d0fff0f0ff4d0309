"""What `check` says of a policy that reaches nobody at some hour of the week."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.config.reach_lint import reach_warnings
from tocsin_alerting.incidents.roster import resolve
from tocsin_alerting.rules.severity import Severity

BERLIN = ZoneInfo("Europe/Berlin")
NOW_MS = 1_796_468_400_000  # Saturday 2026-12-05, 11:00 UTC
WEEK = 'hours: {days: Mon-Fri, from: "08:00", to: "20:00"}'


def loaded(folder: Path, text: str) -> Config:
    path = folder / "tocsin.yml"
    path.write_text("time_zone: Europe/Berlin\nsmtp: {smarthost: mx}\n" + text)
    return load(path, {}, local_mail=lambda sender, to: "none")


def said(folder: Path, text: str, now_ms: int = NOW_MS) -> list[str]:
    return list(reach_warnings(incident_config(loaded(folder, text)), now_ms, BERLIN))


def people(li: str = "", wang: str = "") -> str:
    members = {"li": li, "wang": wang}
    return "contacts:\n" + "".join(
        f"  {name}: {{email: {name}@example.com{hours and ', ' + hours}}}\n"
        for name, hours in members.items()
    )


def policy(name: str, *steps: str, more: str = "") -> str:
    listed = ", ".join(f"{{notify: [{step}], escalate_after: 10m}}" for step in steps[:-1])
    last = f"{{notify: [{steps[-1]}]}}"
    return f"policies: {{{name}: {{{more}steps: [{', '.join(filter(None, [listed, last]))}]}}}}"


def test_people_without_hours_are_always_reached(tmp_path: Path) -> None:
    assert said(tmp_path, people()) == []
    assert said(tmp_path, people(wang=WEEK)) == [], "everyone is told, and li has no hours"


def test_a_step_that_reaches_nobody_on_a_sunday_is_named_with_its_hours(tmp_path: Path) -> None:
    (warning,) = said(tmp_path, people(li=WEEK) + policy("P2", "{contact: li}"))
    assert warning == (
        "policy P2, step 0 (li) reaches nobody from Sat 2026-12-05 00:00 CET to Mon 2026-12-07"
        " 08:00 CET (3 more such times); add somebody whose hours cover that"
    )
    assert said(tmp_path, people(li=WEEK) + policy("P2", "{contact: wang}")) == []
    second = said(tmp_path, people(li=WEEK) + policy("P2", "{contact: wang}", "{contact: li}"))
    assert [one.partition(" reaches")[0] for one in second] == ["policy P2, step 1 (li)"]


def test_quiet_nights_are_meant_for_what_is_milder_than_p1(tmp_path: Path) -> None:
    night = 'quiet: {from: "22:00", to: "07:00"}'
    assert said(tmp_path, people(li=night) + policy("P2", "{contact: li}")) == []
    (warning,) = said(tmp_path, people(li=night) + policy("P1", "{contact: li}"))
    assert warning.startswith(
        "policy P1 reaches nobody from Sat 2026-12-05 00:00 CET to Sat 2026-12-05 07:00 CET"
        " (28 more such times): its pages wait; "
    )


def test_p0_knows_no_hours(tmp_path: Path) -> None:
    assert said(tmp_path, people(li=WEEK) + policy("P0", "{contact: li}")) == []


def test_another_step_tells_of_a_p1_at_once(tmp_path: Path) -> None:
    night = 'quiet: {from: "22:00", to: "07:00"}'
    steps = policy("P1", "{contact: li}", "{contact: wang}")
    assert said(tmp_path, people(li=night) + steps) == []


def test_a_policys_own_hours_are_meant_but_not_those_of_p1(tmp_path: Path) -> None:
    assert said(tmp_path, people() + policy("P3", "{contact: li}", more=f"{WEEK}, ")) == []
    (warning,) = said(tmp_path, people() + policy("P1", "{contact: li}", more=f"{WEEK}, "))
    assert warning.startswith("policy P1 reaches nobody from Sat 2026-12-05 00:00 CET")


def test_a_sunday_on_which_the_clock_is_set_is_a_whole_day(tmp_path: Path) -> None:
    """It has 23 hours, and lies months ahead."""
    late = 'type: custom, every: 400d, at: "00:00", start: 2027-03-22, members: [wang]'
    until = 'type: custom, every: 3000d, at: "00:00", start: 2026-01-05, members: [li]'
    schedule = f"schedules: {{day: {{layers: [{{{late}}}, {{{until}}}]}}}}\n"
    hours = 'hours: {days: Mon-Sat, from: "00:00", to: "24:00"}'
    (warning,) = said(tmp_path, people(wang=hours) + schedule + policy("P2", "{schedule: day}"))
    assert "from Sun 2027-03-28 00:00 CET to Mon 2027-03-29 00:00 CEST" in warning


def test_who_is_on_call_in_another_week_counts(tmp_path: Path) -> None:
    weekly = 'type: weekly, at: "Mon 00:00", start: 2026-01-05, members: [li, wang]'
    schedule = f"schedules: {{day: {{rotation: {{{weekly}}}}}}}\n"
    for person in ("li", "wang"):
        text = people(**{person: WEEK}) + schedule + policy("P2", "{schedule: day}")
        (warning,) = said(tmp_path, text)
        assert "reaches nobody from" in warning


def test_a_hand_over_within_the_hours_of_nobody_does_not_divide_them(tmp_path: Path) -> None:
    daily = 'type: daily, at: "12:00", start: 2026-01-05, members: [li, wang]'
    schedule = f"schedules: {{day: {{rotation: {{{daily}}}}}}}\n"
    text = people(li=WEEK, wang=WEEK) + schedule + policy("P2", "{schedule: day}")
    (warning,) = said(tmp_path, text)
    assert "from Sat 2026-12-05 00:00 CET to Mon 2026-12-07 08:00 CET" in warning


def test_a_schedule_that_could_not_be_read_is_not_judged(tmp_path: Path) -> None:
    office = 'type: weekly, at: "Mon 10:00", start: 2026-01-05, members: [li]'
    schedule = f"schedules: {{day: {{rotation: {{{office}, {WEEK}}}}}}}\n"
    text = people() + schedule + policy("P2", "{schedule: day}")
    config = incident_config(loaded(tmp_path, text))
    (warning,) = reach_warnings(config, NOW_MS, BERLIN)
    assert warning.startswith("policy P2, step 0 (schedule day) reaches nobody from Sat")
    assert list(reach_warnings(config, NOW_MS, BERLIN, {"day"})) == []


def test_every_hour_agrees_with_who_is_told(tmp_path: Path) -> None:
    """The walk goes from change to change; asked hour by hour it is the same."""
    text = people(li=WEEK, wang='quiet: {days: [Sat], from: "10:00", to: "23:00"}')
    text += policy("P1", "{contact: li}", "{contact: wang}")
    config = incident_config(loaded(tmp_path, text))
    (warning,) = reach_warnings(config, NOW_MS, BERLIN)
    hours = [datetime(2026, 12, 5, tzinfo=BERLIN) + timedelta(hours=n) for n in range(24 * 7)]
    unreached = [
        at
        for at in hours
        if not any(
            resolve(step.notify, config.roster, int(at.timestamp()) * 1000, Severity.P1)
            for step in config.policies["P1"].steps
        )
    ]
    first, last = unreached[0], unreached[-1] + timedelta(hours=1)
    assert len(unreached) == 13
    span = f"from {first:%a %Y-%m-%d %H:%M} CET to {last:%a %Y-%m-%d %H:%M} CET"
    assert f"{span} (3 more such times): " in warning
