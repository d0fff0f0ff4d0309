import pytest

from tocsin_alerting.backtest.labels_file import InvalidJudgement, read_labels
from tocsin_alerting.backtest.report import LabelledIncident


def test_a_table_of_incidents() -> None:
    text = "start,end,alertname,real\n2023-11-14T22:13:20Z,1700000600,High,\n0,1.5,,no\n"
    assert read_labels(text.splitlines(), "x.csv") == (
        LabelledIncident(1_700_000_000_000, 1_700_000_600_000, "High", True),
        LabelledIncident(0, 1500, "", False),
    )


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheet_may_part_its_columns_by_something_else(separator: str) -> None:
    text = "start,end,alertname,real\n0,1.5,High,no\n".replace(",", separator)
    assert read_labels(text.splitlines(), "x.csv") == (LabelledIncident(0, 1500, "High", False),)
    with pytest.raises(InvalidJudgement, match='unknown column "alertnam"; did you mean'):
        read_labels([f"start{separator}end{separator}alertnam"], "x.csv")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("start,stop\n", 'x.csv:1:1: unknown column "stop"'),
        ("begin,end\n", "x.csv:1:1: "),
        ("start,end,alertnam\n", 'x.csv:1:1: unknown column "alertnam"; did you mean "alertname"?'),
        ("start\n", "x.csv:1:1: no column end"),
        ("start,end\n1,0\n", "x.csv:2:1: the end is before the start"),
        ("start,end\n1e400,0\n", 'x.csv:2:1: start: "1e400" is not a time'),
        ("start,end\nx,0\n", 'x.csv:2:1: start: "x" is not a time'),
        ("start,end,real\n0,1,maybe\n", 'x.csv:2:1: real is "maybe"; write true or false'),
    ],
)
def test_what_is_wrong_has_its_place(text: str, why: str) -> None:
    with pytest.raises(InvalidJudgement) as raised:
        read_labels(text.splitlines(), "x.csv")
    assert str(raised.value).startswith(why)
