"""Targets of a job that Prometheus's own configuration cannot show: limits, doubles, bad ones."""

import pytest

from tocsin_exporter.relabel import Relabel
from tocsin_exporter.scrape_job import ScrapeJob, ScrapeLimits, TargetGroup, job_targets
from tocsin_exporter.snapshot import Source

GROUP = TargetGroup("0", ({"__address__": "a:1"}, {"__address__": "b:1"}))


def test_one_source_is_one_page() -> None:
    job = ScrapeJob("j", relabels=(Relabel(target_label="instance", replacement="same"),))
    made = job_targets(job, [GROUP, GROUP])
    assert [target.source for target in made.active] == [Source("j", "same")]
    assert made.problems[0] == (
        "0: http://b:1/metrics and http://a:1/metrics have the same job and instance; give one of"
        " them another instance by relabel_configs"
    )


def test_too_many_targets_are_all_down() -> None:
    made = job_targets(ScrapeJob("j", limits=ScrapeLimits(targets=1)), [GROUP])
    assert [target.refused for target in made.active] == [
        "target_limit exceeded: 2 targets, 1 allowed"
    ] * 2


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"__address__": ""}, "no address"),
        ({"__address__": "a:1/m"}, "not a valid address"),
        ({"__address__": "a:1", "__scheme__": "ftp"}, "neither http nor https"),
        ({"__address__": "a:1", "__scrape_interval__": "soon"}, "not a scrape interval"),
        ({"__address__": "a:1", "__scrape_interval__": "5s"}, "longer than its interval"),
    ],
)
def test_a_target_that_cannot_be_scraped_costs_itself(labels: dict[str, str], why: str) -> None:
    made = job_targets(ScrapeJob("j"), [TargetGroup("f", (labels,)), GROUP])
    assert len(made.active) == 2 and len(made.problems) == 1 and why in made.problems[0]


@pytest.mark.parametrize(("seconds", "text"), [(90, "90s"), (0.5, "500ms"), (1.25, "1s250ms")])
def test_an_interval_survives_its_label(seconds: float, text: str) -> None:
    made = job_targets(ScrapeJob("j", interval=seconds, timeout=seconds), [GROUP])
    assert dict(made.active[0].discovered)["__scrape_interval__"] == text
    assert made.active[0].interval == pytest.approx(seconds)
