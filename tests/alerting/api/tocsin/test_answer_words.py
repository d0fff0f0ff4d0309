"""The words of the page behind a link: both languages say the same, of every timer too."""

import string

import pytest

from tocsin_alerting.api.tocsin.answer_words import WORDS, PageWords, reader_language
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.incident import TimerKind
from tocsin_alerting.rules.severity import Severity


def _places(text: str) -> list[str]:
    return sorted(
        name or "" for _, name, _, _ in string.Formatter().parse(text) if name is not None
    )


@pytest.mark.parametrize("name", WORDS)
def test_both_languages_have_the_same_places(name: str) -> None:
    english, chinese = WORDS[name]
    assert _places(english) == _places(chinese) and english != ""
    if name not in ("name",):
        assert not chinese.isascii()


def test_every_severity_timer_and_answer_has_words() -> None:
    words = PageWords("zh")
    # what people do not notice, as in `next` of the API
    unsaid = {TimerKind.REOPEN_END, TimerKind.SLO_WARN, TimerKind.HOLD_END, TimerKind.FLAP_END}
    unsaid.add(TimerKind.NEW_ALERTS)
    assert all(f"next_{kind}" in words for kind in set(TimerKind) - unsaid)
    assert all(severity.value in words for severity in Severity)
    assert all(f"done_{verb}" in words for verb in Verb)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-TW", "zh"),
        ("EN", "en"),
        ("en;q=0.3,zh;q=0.4", "zh"),
        ("zh;q=0.4,en;q=0.4", "zh"),
        ("fr,*;q=0.1", "en"),
        ("zh;q=0", "en"),
        ("zh;q=nan", "en"),
        ("z" * 10_000, "en"),
    ],
)
def test_the_language_of_the_reader(header: str, language: str) -> None:
    assert reader_language(header, "en") == language
