"""How values are shown to people."""

import pytest

from tocsin_alerting.cli import output


@pytest.mark.parametrize(
    ("since_ms", "shown"),
    [
        (1_000_000_000, "0s ago"),
        (999_941_000, "59s ago"),
        (999_940_000, "1m ago"),
        (996_400_000, "1h ago"),
        (913_600_000, "1d ago"),
        (1_000_001_000, "0s ago"),
        (None, "-"),
    ],
)
def test_an_age_has_the_largest_unit_that_fits(since_ms: int | None, shown: str) -> None:
    assert output.age(since_ms, 1_000_000_000) == shown


def test_times_and_labels() -> None:
    assert output.utc(1_700_000_000_999) == "2023-11-14T22:13:20Z"
    assert output.labels_text({"__name__": "up", "b": "2", "a": "1"}) == 'up{a="1", b="2"}'
    assert output.count(1, "policy", "policies") == "1 policy"
    assert output.count(2, "policy", "policies") == "2 policies"


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["A", "LONG"], [["wide\tcell", "x"], ["y", "z\x1b[1m"]], "none")
    assert (
        capsys.readouterr().out
        == "A          LONG\nwide cell  x\ny          z\N{REPLACEMENT CHARACTER}[1m\n"
    )
