"""Recording rules: names, labels and duplicates."""

import pytest

from support.rule_texts import recording
from support.scripted_engine import row
from tocsin_alerting.rules.recording import DuplicateRecordedSeries, record


def test_it_names_the_result_and_lays_its_labels_over() -> None:
    rule = recording("job:m:sum", "sum by (job) (m)", team="llm", job="y")
    rows = [row(3.0, job="x", i="1"), row(4.0, __name__="m", job="x", i="2")]
    assert record(rule, rows) == [
        ((("__name__", "job:m:sum"), ("i", "1"), ("job", "y"), ("team", "llm")), 3.0),
        ((("__name__", "job:m:sum"), ("i", "2"), ("job", "y"), ("team", "llm")), 4.0),
    ]


def test_two_samples_of_one_series_fail_the_rule() -> None:
    rule = recording("r", "m", i="same")
    with pytest.raises(DuplicateRecordedSeries, match="same labelset after applying rule labels"):
        record(rule, [row(1.0, i="1"), row(2.0, i="2")])
