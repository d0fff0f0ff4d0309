"""Every event of the history has words, in both languages, that say what it holds."""

import re
from pathlib import Path
from typing import Any

import pytest

from tocsin_alerting.incidents.damping import FIRED_AGAIN, WITHIN
from tocsin_alerting.incidents.drills import TIME_IS_UP
from tocsin_alerting.incidents.history_words import (
    LANGUAGES,
    MUTES,
    REASONS,
    WORDS,
    line_words,
)
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.mute_rules import MUTE_KINDS

SILENCE = {
    "matchers": ['alertname="Hot"', 'zone="a"'],
    "starts_at_ms": 1_000,
    "ends_at_ms": 7_201_000,
}
INCIDENTS = Path(__file__).parents[3] / "alerting/tocsin_alerting/incidents"


def _noted() -> set[str]:
    """Every event that the code notes by a name."""
    text = "\n".join(path.read_text("utf-8") for path in INCIDENTS.glob("*.py"))
    text += (INCIDENTS.parent / "api/tocsin/tokens.py").read_text("utf-8")
    names = re.findall(r'\bnote\(\s*"([a-z_]+)"', text)
    names += re.findall(r'[Rr]ecord\(\s*"([a-z_]+)"', text)
    names += re.findall(r'note\(\s*[\w.]+,\s*"([a-z_]+)"', text)
    return {*names, *re.findall(r'return "(deliver[a-z_]+)"', text), "muted", "unmuted"}


def test_every_event_has_words_and_no_word_is_of_none() -> None:
    noted = _noted()
    assert len(noted) > 30
    assert noted - WORDS.keys() == set()
    ends = {"resolved", "given_up", "unwatched"}  # named by their Reason
    assert WORDS.keys() - noted == ends


@pytest.mark.parametrize("event", WORDS)
def test_both_languages_say_the_same_things(event: str) -> None:
    english, chinese = (set(re.findall(r"\{(\w+)\}", words)) for words in WORDS[event])
    assert english == chinese
    assert re.search("[\u4e00-\u9fff]", WORDS[event][1])


@pytest.mark.parametrize("event", WORDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_line_of_another_version_is_shown_all_the_same(event: str, language: str) -> None:
    assert line_words(event, "", {}, 0, language)


@pytest.mark.parametrize(
    ("event", "actor", "data", "english", "chinese"),
    [
        (
            *("acked", "li", {"after_ms": 300_000, "note": "on it"}),
            *("acknowledged by li after 5m: on it", "已确认，操作人：li，历时 5m：on it"),
        ),
        ("acked", "", {}, "acknowledged", "已确认"),
        (
            *("silence_set", "li", {**SILENCE, "comment": "drivers"}),
            'silence of alertname="Hot", zone="a" set for 2h by li: drivers',
            'alertname="Hot", zone="a" 的静默已设置，时长 2h，操作人：li：drivers',
        ),
        (
            *("silence_set", "", {**SILENCE, "until_resolved": True, "window": "night"}),
            'maintenance window "night" set until it is over',
            "维护窗口“night”已设置，直到恢复",
        ),
        (
            *("silence_extended", "li", SILENCE),
            'silence of alertname="Hot", zone="a" now ends in 2h by li',
            'alertname="Hot", zone="a" 的静默改为 2h 后结束，操作人：li',
        ),
        (
            *("silence_ends", "", {"id": "1", "ends_at_ms": 901_000}),
            "a silence ends in 15m, and something fires under it",
            "一条静默将在 15m 后结束，仍有告警在触发",
        ),
        (
            "silence_ended",
            "li",
            {"why": "expired"},
            "a silence ended by li",
            "一条静默已结束，操作人：li",
        ),
        (
            *("silence_ended", "", {"why": "resolved"}),
            *("a silence ended: all that it muted is resolved", "一条静默已结束：其下告警均已恢复"),
        ),
        (
            *("silence_ended", "li", {"why": "replaced"}),
            *(
                "a silence ended by li, replaced by another",
                "一条静默已结束，操作人：li，已被另一条取代",
            ),
        ),
        ("silence_expired", "", {}, "a silence expired", "一条静默已到期"),
        (
            *("delivered", "", {"receiver": "mail", "contact": "li", "reason": "slo_breach"}),
            *("notified li (mail) (slo breach)", "已通知 li (mail)（超过恢复目标）"),
        ),
        (
            "snoozed",
            "li",
            {"until_ms": 3_601_000},
            "snoozed for 1h by li",
            "暂停提醒 1h，操作人：li",
        ),
        (  # asked for 2h, and 200 ms on its way
            *("snoozed", "", {"until_ms": 7_200_800}),
            *("snoozed for 2h", "暂停提醒 2h"),
        ),
        ("muted", "", {"by": "inhibited:4"}, "muted by inhibited:4", "被 事件 #4 抑制"),
        (
            *("closed_by_hand", "li", {"after_ms": 1000, "false_positive": True}),
            *(
                "closed by hand by li after 1s as a false positive",
                "手动关闭，操作人：li，历时 1s，误报",
            ),
        ),
        (
            "clock_jumped",
            "",
            {"delta_ms": -60_000},
            "the clock was set by -1m",
            "系统时钟被调整 -1m",
        ),
        ("commented", "li", {"fields": {"lessons": "fans"}}, "comment by li: lessons=fans", None),
        ("from_the_future", "li", {"x": 1}, "from the future by li", "from the future，操作人：li"),
    ],
)
def test_the_words(
    event: str, actor: str, data: dict[str, Any], english: str, chinese: str | None
) -> None:
    assert line_words(event, actor, data, 1000) == english
    assert chinese is None or line_words(event, actor, data, 1000, "zh") == chinese


NOTES = ("", f"{FIRED_AGAIN}3{WITHIN}12m", TIME_IS_UP, "by 李")


@pytest.mark.parametrize("event", WORDS)
def test_no_chinese_line_holds_an_english_reason(event: str) -> None:
    """Nothing of what we wrote ourselves: names of receivers and numbers stay."""
    known = {
        **dict.fromkeys(("alert", "contact", "receiver", "to", "from", "failed", "error"), "某"),
        **dict.fromkeys(("lost", "instead", "schedule", "name", "role", "severity"), "某"),
        **SILENCE,
        "matchers": [],
        "step": 1,
        "incidents": 2,
        "until_ms": 60_000,
        "after_ms": 60_000,
        "via": "link",
        "delta_ms": 60_000,
    }
    for reason in Reason:
        for note in NOTES:
            for kind in MUTE_KINDS:
                data = {**known, "reason": reason.value, "why": note, "by": [f"{kind}:4"]}
                line = line_words(event, "李", data, 0, "zh")
                assert not re.search("[A-Za-z]{2,}", line), line


def test_every_reason_has_chinese_words() -> None:
    assert {reason.value for reason in Reason} == REASONS.keys()
    assert MUTES.keys() == set(MUTE_KINDS)
    assert len(set(REASONS.values())) == len(REASONS)


def test_what_somebody_wrote_stays_and_a_name_is_said_once() -> None:
    assert line_words("closed_by_hand", "li", {"why": "by li"}, 0) == "closed by hand by li"
    assert line_words("acked", "li", {"note": "by hand"}, 0, "zh").endswith("：by hand")
    assert line_words("acked", "li", {"via": "slack room"}, 0) == "acknowledged by li (Slack)"
    ended = line_words("drill_ended", "", {"why": TIME_IS_UP}, 0, "zh")
    assert ended == "演练结束：演练时间已到"
    flaps = line_words("flapping", "", {"note": f"{FIRED_AGAIN}3{WITHIN}12m"}, 0, "zh")
    again = f"{FIRED_AGAIN}3{WITHIN}12m"
    assert line_words("flapping", "", {"note": again}, 0) == f"flapping: {again}"
    assert flaps == "反复触发：12m 内再次触发 3 次"
    assert line_words("step", "", {"step": 1, "reason": "of_later"}, 0, "zh").endswith(
        "（of later）"
    )
