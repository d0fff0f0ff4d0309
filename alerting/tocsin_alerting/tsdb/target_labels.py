"""The labels that a sample gets from its source, as a Prometheus would have stored it."""

from collections.abc import Mapping

from tocsin_exporter.series import Labels, Series, Source, sorted_labels

METRIC_NAME = "__name__"
UP = "up"
SCRAPE_DURATION = "scrape_duration_seconds"
SAMPLES_SCRAPED = "scrape_samples_scraped"


def stored_labels(source: Source, series: Series) -> Labels:
    """The series's name and labels with `job` and `instance` of its source.

    A colliding label of the series becomes `exported_<label>`, as with `honor_labels: false`.
    """
    target = {"job": source.job, "instance": source.instance}
    labels = dict(series.labels)
    for name in target:
        if name in labels:
            labels[_exported_name(name, labels)] = labels.pop(name)
    return sorted_labels({**labels, **target, METRIC_NAME: series.name})


def synthetic_labels(source: Source, own: Labels = ()) -> tuple[Labels, Labels, Labels]:
    """`up`, `scrape_duration_seconds` and `scrape_samples_scraped` of a source, in that order, with
    the labels of its target that are its `own`."""
    target = {**dict(own), "job": source.job, "instance": source.instance}
    up, duration, scraped = (
        sorted_labels({**target, METRIC_NAME: n}) for n in (UP, SCRAPE_DURATION, SAMPLES_SCRAPED)
    )
    return up, duration, scraped


def source_of(labels: Labels) -> Source:
    """The source that a written sample belongs to: its `job` and `instance`."""
    by_name = dict(labels)
    return Source(by_name.get("job", ""), by_name.get("instance", ""))


def _exported_name(name: str, labels: Mapping[str, str]) -> str:
    name = f"exported_{name}"
    while name in labels:
        name = f"exported_{name}"
    return name
