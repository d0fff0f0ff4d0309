"""The runner: what one collector's failure costs, and what a source says when it is down."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from support.site import only, table
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.collector import CollectorError, Partial, Unavailable, Unread
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.scrape import Scraper, ScrapeTarget
from tocsin_exporter.scrape_job import ScrapeJob, TargetGroup, job_targets
from tocsin_exporter.snapshot import Family, Sample, Snapshot, Source, labels
from tocsin_exporter.targets import job_target

FINE = Family("fine", "gauge", "Fine.")
UP = Family("llm_engine_up", "gauge", "Up.")


class Double:
    """A collector that does what its list of answers says, and then stays with the last."""

    def __init__(self, name: str, *answers: Callable[[], Sequence[Sample]]) -> None:
        self.name = name
        self.closed = False
        self._answers = list(answers)

    async def collect(self) -> Sequence[Sample]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await asyncio.sleep(0)
        return answer()

    def close(self) -> None:
        self.closed = True


class Hanging(Double):
    async def collect(self) -> Sequence[Sample]:
        await asyncio.Event().wait()
        return ()


def says(value: float, **more: str) -> Callable[[], Sequence[Sample]]:
    return lambda: [Sample(FINE, value, labels(**more))]


def raises(error: Exception) -> Callable[[], Sequence[Sample]]:
    def answer() -> Sequence[Sample]:
        raise error

    return answer


def scraper(*collectors: Double, area: str = "llm", cheap: frozenset[str] = frozenset()) -> Scraper:
    target = ScrapeTarget(area, Source("job", "h"), collectors, 5.0, 0.02, cheap, target="h:1")
    return Scraper(target, Clock())


def values(snapshot: Snapshot | None) -> dict[str, float]:
    assert snapshot is not None
    return dict(zip((s.name for s in snapshot.series), snapshot.values.tolist(), strict=True))


async def test_a_hang_a_crash_and_an_error_cost_their_own_metrics() -> None:
    runner = scraper(
        Hanging("hangs", says(1)),
        Double("crashes", raises(ZeroDivisionError("bug"))),
        Double("fails", raises(CollectorError("no"))),
        Double("works", says(7)),
    )
    snapshot = await runner.round(at_ms=1_000)
    assert snapshot is not None and snapshot.ok and snapshot.at_ms == 1_000
    assert values(snapshot) == {"fine": 7}
    health = table(runner.health())
    assert only(health, "tocsin_collector_timeouts_total", collector="hangs", target="h:1") == 1
    assert (
        only(
            health,
            "tocsin_collector_errors_total",
            collector="crashes",
            error_type="ZeroDivisionError",
        )
        == 1
    )
    assert only(health, "tocsin_collector_success", collector="fails") == 0
    assert only(health, "tocsin_collector_success", collector="works") == 1


async def test_a_source_that_is_down_says_so_and_is_not_ok() -> None:
    down = CollectorError("refused", [Sample(UP, 0)])
    snapshot = await scraper(Double("llm", raises(down))).round(1)
    assert snapshot is not None and not snapshot.ok
    assert values(snapshot) == {"llm_engine_up": 0}


async def test_the_errors_of_a_source_name_the_collectors() -> None:
    one = scraper(
        Double("a", says(1)),
        Double("b", raises(CollectorError("refused")), says(2)),
        Hanging("c", says(3)),
    )
    await one.round(0)
    assert one.error == "b: refused; c: missed its deadline"
    await one.round(1)
    assert one.error == "c: missed its deadline"


async def test_a_failure_that_becomes_another_is_said_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down, refuses = CollectorError("down"), Partial("answers, but")
    answers = [raises(error) for error in (down, down, refuses, refuses, down)]
    runner = scraper(Double("llm", *answers))
    for at in range(5):
        await runner.round(at)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"collector failed: {one}" for one in ("down", "answers, but", "down")]


async def test_a_failure_that_has_another_cause_now_is_said_and_a_bug_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only the first was: that we could not ask, or had a bug, stayed unsaid."""
    down, unread, bug = CollectorError("down"), Unread("no thread"), KeyError("bug")
    answers = [raises(error) for error in (down, down, unread, unread, bug, bug, down)]
    runner = scraper(Double("llm", *answers))
    for at in range(7):
        await runner.round(at)
    said = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    assert said == [
        ("collector failed: down", False),
        ("collector failed: no thread", False),
        ("collector failed: 'bug'", True),
        ("collector failed: down", False),
    ]


async def test_nothing_to_read_is_no_source_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    runner = scraper(Double("gpu", raises(Unavailable("no GPU"))))
    assert not runner.absent, "not read yet"
    assert [await runner.round(1), await runner.round(2)] == [None, None]
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no GPU" in caplog.text and list(runner.health()) == [] and runner.absent


async def test_what_was_there_and_is_gone_is_down() -> None:
    runner = scraper(Double("gpu", says(1), raises(Unavailable("no GPU"))))
    await runner.round(1)
    snapshot = await runner.round(2)
    assert snapshot is not None and not snapshot.ok and values(snapshot) == {}
    assert not runner.absent


async def test_a_failure_is_logged_when_it_starts_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    fails = raises(CollectorError("no"))
    runner = scraper(Double("x", fails, fails, says(1), says(1)))
    for at in range(4):
        await runner.round(at)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_reading_never_outlives_its_round() -> None:
    runner = scraper(
        Double("x", says(1), raises(CollectorError("no"))), Double("y", says(2, k="v"))
    )
    first, second = await runner.round(1), await runner.round(2)
    assert first is not None and second is not None
    assert (len(first.series), len(second.series)) == (2, 1)


async def test_a_refresh_reads_the_cheap_ones_and_keeps_the_others() -> None:
    counter = iter(range(10))
    cheap = Double("cheap", lambda: [Sample(FINE, next(counter))])
    dear = Double("dear", lambda: [Sample(UP, next(counter))])
    runner = scraper(cheap, dear, cheap=frozenset({"cheap"}))
    before = await runner.round(1)
    after = await runner.refresh(2)
    assert before is not None and after is not None
    assert (values(before), values(after)) == (
        {"fine": 0, "llm_engine_up": 1},
        {"fine": 2, "llm_engine_up": 1},
    )
    assert after.layout is before.layout and after.at_ms == 2


async def test_a_series_that_comes_twice_is_refused_and_the_rest_stays() -> None:
    runner = scraper(Double("a", says(1)), Double("b", says(2)), Double("c", says(3, k="v")))
    snapshot = await runner.round(1)
    assert snapshot is not None and snapshot.values.tolist() == [1, 3]
    assert runner.duplicates == 1


async def test_the_host_speaks_of_its_collectors_as_node_exporter_does() -> None:
    runner = scraper(Double("cpu", says(1)), Double("x", raises(CollectorError(""))), area="host")
    snapshot = await runner.round(1)
    assert snapshot is not None
    rows = {(s.name, s.labels): v for s, v in zip(snapshot.series, snapshot.values, strict=True)}
    assert rows["node_scrape_collector_success", labels(collector="cpu")] == 1
    assert rows["node_scrape_collector_success", labels(collector="x")] == 0
    assert rows["node_scrape_collector_duration_seconds", labels(collector="cpu")] > 0


def test_closing_closes_every_collector() -> None:
    one, two = Double("1", says(1)), Double("2", says(2))
    scraper(one, two).close()
    assert one.closed and two.closed


def engine_scraper(engine: Double, original: OriginalPage | None = None) -> Scraper:
    silent, source = (Sample(UP, 0.0),), Source("llm", "h:1")
    target = ScrapeTarget("llm", source, (engine,), 5.0, 0.02, target="h:1", silent=silent)
    return Scraper(replace(target, original=original), Clock())


async def test_a_source_that_missed_its_deadline_says_what_is_known_of_it() -> None:
    snapshot = await engine_scraper(Hanging("llm")).round(1)
    assert values(snapshot) == {"llm_engine_up": 0}
    assert snapshot is not None and snapshot.report and not snapshot.ok


@pytest.mark.parametrize("error", [KeyError("a bug"), Unread("no thread"), RuntimeError("no")])
async def test_a_source_that_we_could_not_ask_is_neither_up_nor_down(error: Exception) -> None:
    original = OriginalPage("h:1", engine_type="vllm")
    runner = engine_scraper(Double("llm", raises(error), says(1)), original)
    snapshot = await runner.round(1)
    for one in (snapshot, runner.original):
        assert one is not None
        assert (one.ok, one.report, one.series) == (False, False, ())
    assert only(table(runner.health()), "tocsin_collector_success", target="h:1") == 0
    well = await runner.round(2)
    assert well is not None and well.ok
    assert runner.original is not None and runner.original.report


@pytest.mark.parametrize(
    ("collector", "success", "reported"),
    [
        (Double("scrape", raises(CollectorError("connection refused"))), 1, True),
        (Double("scrape", raises(Unread("no thread"))), 0, False),
        (Hanging("scrape"), 0, False),  # the page's own deadline is before that of its round
    ],
)
async def test_a_target_of_a_job_that_is_down_is_no_failure_of_its_collector(
    collector: Double, success: int, reported: bool
) -> None:
    made = job_targets(ScrapeJob("j"), [TargetGroup("0", ({"__address__": "h:1"},))]).active[0]
    target = replace(job_target(made), collectors=(collector,), deadline=0.02)
    runner = Scraper(target, Clock())
    snapshot = await runner.round(1)
    assert snapshot is not None and not snapshot.ok and snapshot.report is reported
    assert only(table(runner.health()), "tocsin_collector_success", target="j/h:1") == success
    assert runner.error, "/api/v1/targets says why"


async def test_a_collector_of_this_machine_that_breaks_is_reported_as_before() -> None:
    target = ScrapeTarget(
        "host", Source("node", "h"), (Double("x", raises(KeyError("bug"))),), 5.0, 0.02
    )
    snapshot = await Scraper(target, Clock()).round(1)
    assert snapshot is not None and snapshot.report and not snapshot.ok


async def test_an_engine_without_a_page_of_its_own_that_we_could_not_ask_is_not_reported() -> None:
    runner = engine_scraper(Double("llm", raises(Unread("no thread")), raises(CollectorError("x"))))
    unread, down = await runner.round(1), await runner.round(2)
    assert unread is not None and down is not None
    assert (unread.ok, unread.report) == (False, False)
    assert (down.ok, down.report) == (False, True)
