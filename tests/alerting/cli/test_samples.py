"""Answers as rows."""

from tocsin_alerting.cli.legend import Line
from tocsin_alerting.cli.samples import csv_rows, lines, sample_rows, series_csv_rows, value_rows

VECTOR = {
    "resultType": "vector",
    "result": [
        {"metric": {"__name__": "up", "job": "a,b"}, "value": [1700000000.5, "1"]},
        {"metric": {"le": "+Inf"}, "value": [1700000000.5, "NaN"]},
    ],
}
MATRIX = {
    "resultType": "matrix",
    "result": [{"metric": {"a": "b"}, "values": [[0, "+Inf"], [60, "2"]]}],
}
SCALAR = {"resultType": "scalar", "result": [0, "5"]}


def test_a_column_for_each_label() -> None:
    assert csv_rows(VECTOR) == [
        ["time", "value", "__name__", "job", "le"],
        ["2023-11-14T22:13:20.500Z", "1", "up", "a,b", ""],
        ["2023-11-14T22:13:20.500Z", "NaN", "", "", "+Inf"],
    ]
    assert csv_rows(SCALAR) == [["time", "value"], ["1970-01-01T00:00:00.000Z", "5"]]
    assert csv_rows({"resultType": "vector", "result": []}) == [["time", "value"]]
    assert series_csv_rows([{"a": "1"}, {"b": "2"}]) == [["a", "b"], ["1", ""], ["", "2"]]


def test_rows_for_people() -> None:
    assert value_rows(VECTOR) == [['up{job="a,b"}', "1"], ['{le="+Inf"}', "NaN"]]
    assert value_rows(MATRIX) == [['{a="b"}', "+Inf@0 2@60"]]
    assert value_rows(SCALAR) == [["scalar", "5"]]
    assert sample_rows(MATRIX)[1] == ["1970-01-01T00:01:00.000Z", '{a="b"}', "2"]


def test_lines_to_draw() -> None:
    assert lines(MATRIX) == [Line({"a": "b"}, [(0.0, float("inf")), (60.0, 2.0)])]
