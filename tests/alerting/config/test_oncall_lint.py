"""What `check` says of a policy that might reach nobody at some hour."""

from pathlib import Path

import pytest

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.config.oncall_lint import gap_warnings, policy_notes
from tocsin_alerting.yaml_document import InvalidDocument

NOW_MS = 1_796_468_400_000  # Saturday 2026-12-05, 11:00 UTC
PEOPLE = """
time_zone: Europe/Berlin
contacts:
  li: {email: li@example.com, ways: {chat: li-chat}, prefers: [chat]}
  wang: {email: wang@example.com}
smtp: {smarthost: mx}
receivers: {li-chat: {type: webhook, url: "http://127.0.0.1:9/"}}
"""
WEEKLY = 'type: weekly, at: "Mon 10:00", start: 2026-01-05, members: [li, wang]'
OFFICE = 'hours: {days: Mon-Fri, from: "09:00", to: "18:00"}'


def loaded(folder: Path, text: str) -> Config:
    path = folder / "tocsin.yml"
    path.write_text(text)
    return load(path, {}, local_mail=lambda sender, to: "none")


def gaps(folder: Path, schedule: str, policy: str = "") -> list[str]:
    text = f"{PEOPLE}schedules: {{primary: {{{schedule}}}}}\n{policy}"
    return list(gap_warnings(incident_config(loaded(folder, text)), NOW_MS))


def test_a_rotation_without_hours_has_no_gap(tmp_path: Path) -> None:
    assert gaps(tmp_path, f"rotation: {{{WEEKLY}}}") == []


def test_the_next_gap_is_named_with_its_times(tmp_path: Path) -> None:
    (said,) = gaps(tmp_path, f"rotation: {{{WEEKLY}, {OFFICE}}}")
    assert said.startswith(
        'schedule "primary" names nobody from Sat 2026-12-05 12:00 CET to Mon 2026-12-07 09:00 CET'
    )
    assert "260 more such times within a year" in said, "one after each of 52 weeks' working days"


def test_a_second_layer_or_an_override_closes_it(tmp_path: Path) -> None:
    nights = WEEKLY.replace("[li, wang]", "[wang]")
    assert gaps(tmp_path, f"layers: [{{{WEEKLY}, {OFFICE}}}, {{{nights}}}]") == []
    weekend = "overrides: [{from: 2026-12-01T00:00, to: 2026-12-07T09:00, contact: li}]"
    (said,) = gaps(tmp_path, f"rotation: {{{WEEKLY}, {OFFICE}}}, {weekend}")
    assert "names nobody from Mon 2026-12-07 18:00 CET" in said


def test_a_rotation_that_has_not_begun_names_nobody_yet(tmp_path: Path) -> None:
    (said,) = gaps(tmp_path, f"rotation: {{{WEEKLY.replace('2026-01-05', '2027-01-04')}}}")
    assert "from Sat 2026-12-05 12:00 CET to Mon 2027-01-04 10:00 CET" in said
    (said,) = gaps(tmp_path, f"rotation: {{{WEEKLY.replace('2026-01-05', '2036-01-05')}}}")
    assert said == 'schedule "primary" names nobody at all; add members or layers'


def test_a_schedule_that_nobody_names_has_no_gap_and_is_noted(tmp_path: Path) -> None:
    each = [f"P{number}: {{steps: [{{notify: [{{contact: li}}]}}]}}" for number in range(5)]
    policy = f"policies: {{{', '.join(each)}}}"
    assert gaps(tmp_path, f"rotation: {{{WEEKLY}, {OFFICE}}}", policy) == []
    config = incident_config(loaded(tmp_path, (tmp_path / "tocsin.yml").read_text()))
    assert 'schedule "primary" is in no policy' in "\n".join(policy_notes(config))


def test_one_channel_alone_is_noted(tmp_path: Path) -> None:
    text = "contacts: {me: {email: me@example.com}}\nsmtp: {smarthost: mx}\nreceivers: {}"
    config = incident_config(loaded(tmp_path, text))
    notes = list(policy_notes(config))
    assert not any("alone" in note for note in notes) or "mail" in notes[0]
    assert list(policy_notes(incident_config(loaded(tmp_path, PEOPLE)))) == []


def test_who_lacks_the_ways_of_a_step_is_noted(tmp_path: Path) -> None:
    step = "policies: {P0: {steps: [{notify: [{everyone: true, via: [chat]}]}]}}"
    notes = list(policy_notes(incident_config(loaded(tmp_path, PEOPLE + step))))
    assert notes[-1] == ('contact "wang" has no way chat: a step that asks for it uses the others')


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("contacts: {li: {}}", "1:16", "no way to reach this contact; add email, phone or ways"),
        ("contacts: {li: {ways: {chat: ops}}}", "1:30", 'no receiver is called "ops"'),
        (PEOPLE.replace("prefers: [chat]", "prefers: [chatt]"), "4:", 'did you mean "chat"'),
        (PEOPLE + "policies: {P0: {steps: [{notify: [{contact: wang, via: [chat]}]}]}}", "8:",
         'contact "wang" does not have a way called "chat"'),
        (PEOPLE + "policies: {P0: {steps: [{notify: [{everyone: true, via: [emial]}]}]}}", "8:",
         'no contact has a way called "emial"; did you mean "email"'),
        (PEOPLE + "policies: {P0: {steps: [{notify: [{schedule: primry}]}]}}\n"
         f"schedules: {{primary: {{rotation: {{{WEEKLY}}}}}}}", "8:",
         'no schedule is called "primry"; did you mean "primary"'),
        (PEOPLE + f"schedules: {{p: {{rotation: {{{WEEKLY.replace('wang', 'wng')}}}}}}}", "8:",
         'no contact is called "wng"; did you mean "wang"'),
        (PEOPLE + "schedules: {p: {rotation: {type: weekly, at: '10:00', start: 2026-01-05,"
         " members: [li]}}}", "8:", "a weekly rotation hands over on a day"),
        (PEOPLE + "schedules: {p: {rotation: {type: custom, at: '10:00', start: 2026-01-05,"
         " members: [li], every: 30m}}}", "8:", "every must be at least 1h"),
        (PEOPLE + "schedules: {p: {rotation: {type: daily, at: '25:00', start: 2026-13-05,"
         " members: []}}}", "8:", "is no date"),
        (PEOPLE + "schedules: {p: {}}", "8:", "needs a rotation, layers or a calendar"),
        (PEOPLE + f"schedules: {{p: {{rotation: {{{WEEKLY}}}, overrides: [{{from: 2026-02-02T00:00,"
         " to: 2026-02-01T00:00, contact: li}]}}", "8:",
         "the override of li ends before it begins"),
        (PEOPLE.replace("prefers: [chat]", 'quiet: {from: "22:00", to: "22:00"}'), "4:",
         "it starts when it ends"),
        (PEOPLE.replace("prefers: [chat]", "hours: {days: Mon-Fry}"), "4:", "no day of the week"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(
    tmp_path: Path, text: str, place: str, said: str
) -> None:
    with pytest.raises(InvalidDocument) as caught:
        loaded(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert any(f"tocsin.yml:{place}" in line and said in line for line in lines), lines
