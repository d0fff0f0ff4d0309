"""Faults of texts: each kind in those that have it, and none in those that do not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.answer_text import KINDS, is_other_language, repeats, text_anomalies

PROSE = (
    "The lighthouse keeper wrote in his book about the storm, which had taken the roof of the "
    "barn and two of his hens; the third came back on Sunday, wet, and would not eat for a day."
)


@pytest.mark.parametrize(
    "loop", ["again and ", "no ", "我不知道。", "one two three four five six seven eight nine "]
)
def test_a_loop_at_the_end_is_a_repetition(loop: str) -> None:
    assert repeats(PROSE + " " + loop * 40)
    assert not repeats(PROSE + " " + loop * 2)


@pytest.mark.parametrize(
    "text",
    ["-" * 200, "| --- " * 60, " ".join(map(str, range(300))), json.dumps(list(range(100)))],
)
def test_ornaments_and_lists_are_no_loops(text: str) -> None:
    assert not repeats(text)


@given(st.lists(st.integers(), min_size=30, max_size=80, unique=True))
def test_words_that_differ_are_no_loop(numbers: list[int]) -> None:
    assert not repeats(" ".join(map(str, numbers)))


CHINESE = "请告诉我北京有哪些有名的地方可以参观"
RUSSIAN = "Расскажи мне о самых известных местах Москвы"


@pytest.mark.parametrize(
    ("prompt", "text"), [(CHINESE, PROSE), (RUSSIAN, PROSE), (PROSE, CHINESE * 2)]
)
def test_an_answer_in_another_script_is_seen(prompt: str, text: str) -> None:
    assert is_other_language(prompt, text)
    assert list(text_anomalies(text, prompt, False)) == ["wrong_language"]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (CHINESE, "北京有很多有名的地方，比如 Great Wall 和故宫。" * 2),
        (CHINESE + "，用英文回答", PROSE),
        ("Translate this: " + RUSSIAN, PROSE),
        ("嗯", PROSE),
        (CHINESE, "OK"),
        (CHINESE, "```python\nprint('a line of code that is long enough')\n```"),
    ],
)
def test_what_may_be_wanted_is_not(prompt: str, text: str) -> None:
    assert not is_other_language(prompt, text)


def test_each_kind_is_said_once_and_is_one_of_those_that_are_named() -> None:
    assert list(text_anomalies(" \n", "", True)) == ["empty"]
    loop = list(text_anomalies(PROSE + " no" * 40, CHINESE, True, True))
    assert loop == ["truncated", "repetition", "wrong_language"]
    assert list(text_anomalies(PROSE, PROSE, False)) == []
    assert {*loop, "empty", "invalid_json"} == set(KINDS)
