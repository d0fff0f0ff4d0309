"""A scraped page as snapshots; that Prometheus keeps the same is in stories/test_scrape_jobs.py."""

import asyncio
import errno
import time
from collections.abc import Callable, Mapping

import pytest

from tocsin_exporter.collectors.collector import CollectorError, Unread
from tocsin_exporter.collectors.scraped_page import ScrapedPage
from tocsin_exporter.http import httpx
from tocsin_exporter.relabel import Relabel
from tocsin_exporter.scrape_job import ScrapeJob, ScrapeLimits, TargetGroup, job_targets
from tocsin_exporter.slices import T, Turns, Work
from tocsin_exporter.snapshot import Snapshot, Source

GROUP = TargetGroup("0", ({"__address__": "h:1"},), {"team": "x"})
OWN = Source("j", "h:1")


class Target:
    """A target whose page is `text`."""

    def __init__(self, text: str = "a 1\n", **keys: object) -> None:
        self.text, self.asked = text, list[httpx.Request]()
        job = ScrapeJob("j", **keys)  # type: ignore[arg-type]
        transport = httpx.MockTransport(self._answer)
        self.page = ScrapedPage(job_targets(job, [GROUP]).active[0], transport)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        body = self.text.encode()
        framed = {"Content-Length": str(len(body))}
        return httpx.Response(200, headers=framed, stream=httpx.ByteStream(body))

    async def read(self, text: str | None = None) -> list[Snapshot]:
        self.text = self.text if text is None else text
        await self.page.collect()
        return self.page.snapshots(1000, 0.5, True)


def series(snapshot: Snapshot) -> Mapping[str, float]:
    shown = (
        f"{one.name}{{{','.join(f'{k}={v}' for k, v in one.labels)}}}" for one in snapshot.series
    )
    return dict(zip(shown, snapshot.values.tolist(), strict=True))


async def test_a_page_is_asked_for_and_kept_as_prometheus_does() -> None:
    target = Target('# TYPE a gauge\na{b="c",team="y"} 4\n', params={"q": ("1", "2")}, timeout=7)
    (own,) = await target.read()
    assert own.source == OWN and own.ok and own.report and own.target_labels == (("team", "x"),)
    assert series(own) == {
        "a{b=c,exported_team=y,team=x}": 4,
        "scrape_samples_post_metric_relabeling{team=x}": 1,
        "scrape_series_added{team=x}": 1,
    }
    assert own.scraped == 1 and own.duration_seconds == 0.5
    asked = target.asked[0]
    assert str(asked.url) == "http://h:1/metrics?q=1&q=2"
    assert asked.headers["X-Prometheus-Scrape-Timeout-Seconds"] == "7"
    assert asked.headers["Accept"].startswith("application/openmetrics-text;version=1.0.0")


async def test_the_same_series_have_the_same_layout_and_add_none() -> None:
    target = Target("a 1\nb 2\n")
    (first,), (second,), (third,) = [
        await target.read(text) for text in (None, "a 3\nb 4\n", "a 3\nc 4\n")
    ]
    assert first.layout is second.layout is not third.layout
    added = "scrape_series_added{team=x}"
    assert [series(one)[added] for one in (first, second, third)] == [2, 0, 1]


async def test_what_fails_is_down_without_its_series() -> None:
    target = Target("a 1\n")
    await target.read()
    for text, why in (
        ("a 1\nb\n", "line 2 is not a sample: 'b'"),
        ("a{b=} 1\n", "not a series"),
        ('a{b="1",c="x=y",b="2"} 1\n', "label name 'b' is not unique"),
        ('a{b="1",b="1"} 1\n', "label name 'b' is not unique"),
    ):
        target.text = text
        with pytest.raises(CollectorError, match=why):
            await target.page.collect()
        (own,) = target.page.snapshots(2000, 0.1, True)
        assert not own.ok and "a{team=x}" not in series(own)


async def test_a_source_of_its_own_comes_and_goes() -> None:
    target = Target('a{job="far",instance="f:1"} 1\nb 2\n', honor_labels=True)
    own, far = await target.read()
    assert "b{team=x}" in series(own) and "a{team=x}" not in series(own)
    assert (far.source, far.report, series(far)) == (Source("far", "f:1"), False, {"a{team=x}": 1})
    own, gone = await target.read("b 2\n")
    assert (gone.source, len(gone.values), gone.report) == (Source("far", "f:1"), 0, False)
    assert len(await target.read("b 2\n")) == 1


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (ScrapeLimits(samples=1), "sample_limit exceeded: 2 samples, 1 allowed"),
        (ScrapeLimits(labels=3), "label_limit exceeded: 4 labels"),
        (ScrapeLimits(label_name_length=3), "label_name_length_limit exceeded: 'instance'"),
        (ScrapeLimits(label_value_length=2), "label_value_length_limit exceeded: job=|instance="),
        (ScrapeLimits(body_bytes=5), "body_size_limit exceeded: 5 bytes allowed"),
    ],
)
async def test_a_limit_fails_the_page(limits: ScrapeLimits, why: str) -> None:
    target = Target("a 1\nb 2\n", limits=limits)
    with pytest.raises(CollectorError, match=why):
        await target.page.collect()
    assert not target.page.snapshots(1000, 0.1, True)[0].ok


async def test_a_limit_counts_what_relabelling_leaves() -> None:
    drop = Relabel("drop", ("__name__",), regex="b")
    target = Target("a 1\nb 2\n", limits=ScrapeLimits(samples=1), metric_relabels=(drop,))
    (own,) = await target.read()
    assert own.ok and own.scraped == 2
    assert series(own)["scrape_samples_post_metric_relabeling{team=x}"] == 1


async def test_a_name_that_relabelling_takes_away_fails_the_page() -> None:
    rule = Relabel(target_label="__name__", replacement="")
    with pytest.raises(CollectorError, match="take the name away"):
        await Target(metric_relabels=(rule,)).page.collect()


def failing(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    return answer


async def test_a_page_that_we_were_too_busy_to_read_is_not_down() -> None:
    """Nobody knows then whether it answers: the loop had no turn for it."""

    async def hangs(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    made = job_targets(ScrapeJob("j", timeout=0.01), [GROUP]).active[0]
    page = ScrapedPage(made, httpx.MockTransport(hangs))
    with pytest.raises(CollectorError, match="no answer within 0.01 s"):
        await page.collect()
    reading = asyncio.create_task(page.collect())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  (another part of the agent holds the loop)
    with pytest.raises(Unread, match="too busy"):
        await reading


async def test_a_loop_that_lags_had_no_time_for_an_answer() -> None:
    """By the one measure of the agent: a turn of a tenth of the time-out."""

    async def hangs(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    made = job_targets(ScrapeJob("j", timeout=0.01), [GROUP]).active[0]
    lagging = ScrapedPage(made, httpx.MockTransport(hangs), lag=lambda: 0.3)
    with pytest.raises(Unread, match="too busy"):
        await lagging.collect()


async def test_a_page_that_came_in_time_waits_for_its_turn_to_be_read() -> None:
    made = job_targets(ScrapeJob("j", timeout=0.2), [GROUP]).active[0]
    free = asyncio.Event()

    class Busy(Turns):
        async def run(self, work: Work[T]) -> T:
            await free.wait()
            return await super().run(work)

    async def answer(_request: httpx.Request) -> httpx.Response:
        asyncio.get_running_loop().call_later(0.4, free.set)  # well after its time-out
        return httpx.Response(
            200, headers={"Content-Length": "4"}, stream=httpx.ByteStream(b"a 1\n")
        )

    page = ScrapedPage(made, httpx.MockTransport(answer), Busy(time.monotonic))
    await page.collect()
    assert page.snapshots(1000, 0.5, True)[0].ok


async def test_what_we_lack_is_no_fault_of_the_target() -> None:
    made = job_targets(ScrapeJob("j"), [GROUP]).active[0]
    lack = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(Unread, match="cannot be scraped"):
        await ScrapedPage(made, httpx.MockTransport(failing(lack))).collect()
    refused = httpx.ConnectError("[Errno 111] Connection refused")
    with pytest.raises(CollectorError, match="connection refused"):
        await ScrapedPage(made, httpx.MockTransport(failing(refused))).collect()
