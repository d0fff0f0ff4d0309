"""Faults of answers that passed: each kind in those that have it, and none in the others."""

import pytest

from tocsin_exporter.proxy.anomalies import anomalies
from tocsin_exporter.proxy.content import Asked, Output, Said

PROSE = (
    "The lighthouse keeper wrote in his book about the storm, which had taken the roof of the "
    "barn and two of his hens; the third came back on Sunday, wet, and would not eat for a day."
)


def found(text: str, asked: Asked | None = None, **said: str) -> list[str]:
    output = Output()
    output.add(Said(text=text, **said))  # type: ignore[arg-type]
    return list(anomalies(asked or Asked(), output))


def test_prose_has_none() -> None:
    assert found(PROSE, finish="stop") == []


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_answer_without_text_is_empty_but_for_calls_of_tools(text: str) -> None:
    assert found(text) == ["empty"]
    assert found(text, besides="()") == []


def test_an_answer_that_was_cut_is_truncated() -> None:
    assert found(PROSE, finish="length") == ["truncated"]
    assert found('{"a": ', Asked(json=True), finish="length") == ["truncated"]


def test_an_answer_that_was_to_be_json_is_parsed() -> None:
    assert found('{"a": 1', Asked(json=True), finish="stop") == ["invalid_json"]
    assert found('{"a": 1}', Asked(json=True), finish="stop") == []
    assert found(PROSE, Asked(json=False), finish="stop") == []


def test_an_answer_in_another_script_is_seen_unless_it_is_json() -> None:
    asked = "请告诉我北京有哪些有名的地方可以参观"
    assert found(PROSE, Asked(prompt=asked)) == ["wrong_language"]
    assert found('["Great Wall", "Forbidden City"]', Asked(prompt=asked, json=True)) == []


def test_an_engine_that_says_that_it_loops_is_believed() -> None:
    assert found(PROSE, finish="repetition") == ["repetition"]


def test_what_could_not_be_read_whole_is_not_judged() -> None:
    output = Output(whole=False)
    assert list(anomalies(Asked(), output)) == []
