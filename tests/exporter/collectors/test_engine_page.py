"""An engine's own page: as prometheus_client reads it, and as a real Prometheus stores it."""

import http.server
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors.test_engine import OURS, SGLANG, VLLM, pages, served
from support.prometheus import running_prometheus
from support.site import only, table
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Labels, Snapshot, Source

Line = tuple[str, Labels]

TYPED = r"""# HELP http_requests_total Requests, by "path" and \\ status.
# TYPE http_requests_total counter
http_requests_total{path="a\"}b # c",status="200"} 1.5e+06
http_requests_total{path="back\\slash\nline",status="500",empty=""} 2
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.5"} 1
latency_seconds_bucket{le="1.0"} 2
latency_seconds_bucket{le="+Inf"} 3
latency_seconds_sum 1.25
latency_seconds_count 3
# TYPE pause_seconds summary
pause_seconds{quantile="0.5"} NaN
pause_seconds_sum 0
pause_seconds_count 0
# TYPE load_count gauge
load_count -Inf
alone{job="their job",instance="theirs"} 4
"""


def take(original: OriginalPage, engine_type: str, page: str) -> None:
    at_once(original.read(engine_type, at_once(engine_text.read(page))))


def read(page: str, engine_type: str = "vllm") -> Snapshot:
    original = OriginalPage("127.0.0.1:8000")
    take(original, engine_type, page)
    snapshot = original.snapshot(1_000, 0.25)
    assert snapshot is not None
    return snapshot


def numbers(snapshot: Snapshot) -> dict[Line, float]:
    pairs = zip(snapshot.series, snapshot.values.tolist(), strict=True)
    return {(series.name, series.labels): value for series, value in pairs}


def by_prometheus_client(page: str) -> dict[Line, float]:
    """The first of those that have one name and label set, as Prometheus keeps it."""
    found: dict[Line, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if v))
            found.setdefault((sample.name, labels), sample.value)
    return found


@pytest.mark.parametrize("page", [VLLM, SGLANG, TYPED])
def test_a_page_says_what_prometheus_client_reads_in_it(page: str) -> None:
    ours, theirs = numbers(read(page)), by_prometheus_client(page)
    assert ours.keys() == theirs.keys()
    for line, value in theirs.items():
        assert ours[line] == value or (math.isnan(ours[line]) and math.isnan(value))


_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('"\\}{#, '))
_names = st.from_regex(r"[a-z_:][a-z0-9_:]{0,6}", fullmatch=True).filter(
    lambda name: name != "up" and not name.startswith(("llm_", "node_", "scrape_"))
)
_labels = st.dictionaries(st.sampled_from(["a", "b", "le", "job"]), _texts, max_size=3)


def _line(name: str, labels: dict[str, str], value: float, at: str) -> str:
    escaped = (
        f'{k}="' + v.replace("\\", r"\\").replace('"', r"\"") + '"' for k, v in labels.items()
    )
    inside = ",".join(escaped)
    return f"{name}{{{inside}}} {value!r}{at}" if inside else f"{name} {value!r}{at}"


@given(
    st.lists(
        st.builds(
            _line, _names, _labels, st.floats(allow_nan=False), st.sampled_from(["", " 17000"])
        )
    )
)
def test_any_page_says_what_prometheus_client_reads_in_it(lines: list[str]) -> None:
    page = "\n".join(lines) + "\n"
    assert numbers(read(page)) == by_prometheus_client(page)


def test_families_have_their_types_and_help() -> None:
    families = read(TYPED).families
    assert families["http_requests_total"].help == 'Requests, by "path" and \\ status.'
    types = {name: family.type for name, family in families.items()}
    assert types == {
        "http_requests_total": "counter",
        "latency_seconds": "histogram",
        "pause_seconds": "summary",
        "load_count": "gauge",
        "alone": "untyped",
    }


def test_bounds_are_written_as_prometheus_3_does_whatever_an_engine_says() -> None:
    page = "# TYPE h histogram\n" + "".join(
        f'h_bucket{{le="{le}"}} 1\n' for le in ("1", "5e-1", "+Inf", "what?")
    )
    assert [dict(series.labels)["le"] for series in read(page).series] == [
        "1.0",
        "0.5",
        "+Inf",
        "what?",
    ]


@pytest.mark.parametrize(
    "line", ["{} 1", "9name 1", "name", "name{a=b} 1", 'name{a="b} 1', "name one", " ", "\x00\x01"]
)
def test_a_bad_line_costs_itself_alone(line: str) -> None:
    assert numbers(read(f"a 1\n{line}\nb 2\n")) == {("a", ()): 1.0, ("b", ()): 2.0}


def test_timestamps_and_exemplars_fall_away() -> None:
    page = 'a{x="1"} 3 1700000000000\nb_bucket{le="1.0"} 2 # {trace="}"} 0.5 1.7e9\nc\t4\n'
    page += 'd{x="1"} 5 # {trace="a"} 0.5\n'
    assert list(numbers(read(page)).values()) == [3.0, 2.0, 4.0, 5.0]


def test_the_layout_stays_while_the_series_do() -> None:
    original = OriginalPage("h:1")
    take(original, "vllm", "a 1\nb 2\n")
    first = original.snapshot(1_000, 0.1)
    take(original, "vllm", "a 3\nb 4\n")
    second = original.snapshot(2_000, 0.1)
    assert first is not None and second is not None
    assert first.layout is second.layout
    assert first.values.tolist() == [1.0, 2.0]
    assert second.values.tolist() == [3.0, 4.0]


def test_without_a_page_the_engine_is_down_to_prometheus_once_its_type_is_known() -> None:
    original = OriginalPage("h:1")
    assert original.snapshot(1_000, 0.1) is None
    take(original, "sglang", "a 1\n")
    assert original.snapshot(2_000, 0.1) is not None
    silent = original.snapshot(3_000, 0.1)
    assert silent is not None
    assert (silent.source, silent.ok, silent.series) == (Source("sglang", "h:1"), False, ())


FEIGNED = """\
llm_engine_up 0
llm_engine_up{target="127.0.0.1:8000"} 0
# TYPE llm_time_to_first_token_seconds histogram
llm_time_to_first_token_seconds_bucket{le="1.0"} 5
node_load1 99
node_filesystem_avail_bytes{mountpoint="/"} 0
DCGM_FI_DEV_XID_ERRORS{gpu="0"} 79
gpu_devices 0
gpu_xid_last_timestamp_seconds{xid="79"} 1
namedprocess_namegroup_num_procs{groupname="vllm"} 0
tocsin_collector_success{collector="gpu"} 0
up 0
up{instance="other"} 0
scrape_duration_seconds 99
ALERTS{alertname="InferenceEngineDown",alertstate="firing"} 1
"""


def test_an_engine_cannot_speak_under_our_names() -> None:
    original = OriginalPage("127.0.0.1:8000")
    take(original, "vllm", VLLM)
    own = original.snapshot(1, 0.1)
    take(original, "vllm", VLLM + FEIGNED)
    both = original.snapshot(2, 0.1)
    assert own is not None and both is not None
    assert numbers(both) == numbers(own)
    assert original.left_out == FEIGNED.count("\n") - FEIGNED.count("# ")
    take(original, "vllm", VLLM)
    assert original.left_out == 0


def test_names_that_only_begin_like_ours_are_the_engines() -> None:
    said = "upstream 1\ngpu_utilization 5\nprocess_open_fds 3\nnodes 1\nllm:x 2\n"
    assert len(numbers(read(said))) == 5


def test_a_job_of_ones_own() -> None:
    original = OriginalPage("h:1", job="chat")
    take(original, "vllm", "a 1\n")
    assert original.source == Source("chat", "h:1")


def test_after_a_restart_a_silent_engine_is_down_under_the_type_that_it_had() -> None:
    kept = {Source("vllm", "h:1"): 1_000, Source("sglang", "h:1"): 2_000, Source("tgi", "h:2"): 9}
    original = OriginalPage("h:1")
    original.resume(kept.get)
    silent = original.snapshot(3_000, 0.1)
    assert silent is not None and (silent.source, silent.ok) == (Source("sglang", "h:1"), False)
    for job, instance in (("", "h:3"), ("chat", "h:1")):
        stranger = OriginalPage(instance, job)
        stranger.resume(kept.get)
        assert stranger.snapshot(3_000, 0.1) is None


def test_on_our_page_each_series_has_the_target_that_no_engine_can_feign() -> None:
    original = OriginalPage("h:1")
    take(original, "vllm", 'a{target="other"} 1\nb 2\n')
    snapshot = original.snapshot(1_000, 0.1)
    assert snapshot is not None
    shown = at_once(original.labelled(snapshot, "h:1"))
    assert [series.labels for series in shown.series] == [
        (("exported_target", "other"), ("target", "h:1")),
        (("target", "h:1"),),
    ]
    assert at_once(original.labelled(snapshot, "h:1")).layout is shown.layout


def test_a_line_of_braces_takes_time_by_its_length() -> None:
    """Twice as long is twice as slow, not four times: a bound on work and not on a clock."""
    times = []
    for size in (200_000, 400_000):
        page = 'x{a="' + "}" * size + "\n" + 'y{a="' + '\\"' * size + "\n"
        started = time.process_time()
        read(page)
        times.append(time.process_time() - started)
    assert times[1] < 3.5 * times[0] + 0.05


async def kept(url: str) -> Snapshot | None:
    """What a reading leaves of the engine's own page."""
    access = EngineAccess.of(url)
    original = OriginalPage(access.target)
    collector = EngineCollector(access, lambda: 1234.0, 5.0, original=original)
    with suppress(CollectorError):
        await collector.collect()
    await collector.aclose()
    return original.snapshot(1_000, 0.1)


async def test_the_page_is_kept_in_the_engines_own_words() -> None:
    async with served(pages({"/metrics": (200, VLLM), "/health": (503, "")})) as url:
        snapshot = await kept(url)
    assert snapshot is not None and snapshot.ok  # what can be read is up, unwell or not
    assert snapshot.source == Source("vllm", url.removeprefix("http://"))
    assert {"vllm:prompt_tokens_total", "http_requests_total"} <= {s.name for s in snapshot.series}


@pytest.mark.parametrize("page", [VLLM + FEIGNED, FEIGNED + VLLM])
async def test_what_has_our_names_is_counted_and_hides_no_other(page: str) -> None:
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        original = OriginalPage("i")
        engine = EngineCollector(EngineAccess.of(url), lambda: 1234.0, 5.0, original=original)
        rows = table(await engine.collect())
        await engine.aclose()
    assert only(rows, "llm_engine_up") == 1
    assert only(rows, "llm_engine_info", engine_type="vllm") == 1
    assert only(rows, "llm_engine_series_limited") == original.left_out == 14


@pytest.mark.parametrize("page", [OURS, "", "[]", "<html>"])
async def test_what_says_llm_or_nothing_that_we_know_has_no_words_of_its_own(page: str) -> None:
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        assert await kept(url) is None


# beside the real one


@contextmanager
def serving(page: str) -> Iterator[str]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_prometheus_that_scrapes_the_engine_holds_the_same(tmp_path: Path) -> None:
    page = VLLM + TYPED
    with serving(page) as address:
        config = f"""
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: vllm, static_configs: [{{targets: ["{address}"]}}]}}]
"""
        with running_prometheus(tmp_path, config=config) as server:
            held: list[dict[str, dict[str, str]]] = []
            deadline = time.monotonic() + 20
            while len(held) < 20 and time.monotonic() < deadline:
                held = server.get("query", query='{job="vllm"}')["data"]["result"]
    names = ("__name__", "job", "instance")
    theirs = {
        (
            row["metric"]["__name__"],
            tuple(sorted((k, v) for k, v in row["metric"].items() if k not in names)),
        )
        for row in held
        if not row["metric"]["__name__"].startswith(("up", "scrape_"))
    }
    ours = {
        (name, tuple(sorted((f"exported_{k}" if k in names else k, v) for k, v in labels)))
        for name, labels in numbers(read(page))
    }
    assert ours == theirs
