"""One evaluation of a recording rule (rules/recording.go, Eval)."""

from collections.abc import Sequence

from tocsin_alerting.rules.rule import RecordingRule
from tocsin_alerting.rules.template_data import QueryRows
from tocsin_exporter.snapshot import Labels, sorted_labels


class DuplicateRecordedSeries(ValueError):
    """Two samples give one series: the whole rule fails."""

    def __init__(self) -> None:
        super().__init__(
            "vector contains metrics with the same labelset after applying rule labels"
        )


def record(rule: RecordingRule, rows: QueryRows) -> Sequence[tuple[Labels, float]]:
    """The samples to write, `__name__` among their labels. Raises DuplicateSeries.

    A rule's label replaces the sample's; an empty one removes it.
    """
    recorded: dict[Labels, float] = {}
    for labels, value in rows:
        named = {**dict(labels), "__name__": rule.name, **dict(rule.labels)}
        series = sorted_labels(named)
        if series in recorded:
            raise DuplicateRecordedSeries
        recorded[series] = value
    return list(recorded.items())
