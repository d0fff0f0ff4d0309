"""The page against literal text, and against two parsers that are not ours."""

import gc
import math
import struct
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as open_metrics_parser

from support.snapshots import snapshot
from tocsin_exporter.exposition import number_text, render, rendered
from tocsin_exporter.negotiation import Format
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Exemplar, Family, Layout, Sample, Snapshot, labels, only

Parser = Callable[[str], Iterable[Metric]]
parse_text: Parser = text_parser.text_string_to_metric_families
parse_open_metrics: Parser = open_metrics_parser.text_string_to_metric_families
PARSERS: list[tuple[Format, Parser]] = [("text", parse_text), ("openmetrics", parse_open_metrics)]

BYTES = Family("net_bytes_total", "counter", "Bytes.", "bytes")
LOAD = Family("load1", "gauge", 'The "load"\\now\nhere.')
ENERGY = Family("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Energy (in mJ).", "mJ")
FAULTS = Family("vmstat_pgfault", "untyped", "Faults.")
WAIT = Family("wait_seconds", "histogram", "Waiting.", "seconds")

PAGE = [
    snapshot(
        [
            Sample(BYTES, 10, labels(device="eth0")),
            Sample(LOAD, 0.25),
            Sample(BYTES, 20, labels(device="lo")),
            Sample(FAULTS, 7),
        ]
    ),
    snapshot(
        [
            Sample(WAIT, 1, labels(le="0.5"), "_bucket"),
            Sample(WAIT, 2, labels(le="1"), "_bucket"),
            Sample(WAIT, 3, labels(le="+Inf"), "_bucket"),
            Sample(WAIT, 4.5, (), "_sum"),
            Sample(WAIT, 3, (), "_count"),
            Sample(ENERGY, 123456789, labels(gpu="0")),
        ],
        job="llm",
    ),
]


def test_text() -> None:
    assert render(PAGE, "text").body.decode() == (
        "# HELP net_bytes_total Bytes.\n"
        "# TYPE net_bytes_total counter\n"
        'net_bytes_total{device="eth0"} 10\n'
        'net_bytes_total{device="lo"} 20\n'
        '# HELP load1 The "load"\\\\now\\nhere.\n'
        "# TYPE load1 gauge\n"
        "load1 0.25\n"
        "# HELP vmstat_pgfault Faults.\n"
        "# TYPE vmstat_pgfault untyped\n"
        "vmstat_pgfault 7\n"
        "# HELP wait_seconds Waiting.\n"
        "# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{le="0.5"} 1\n'
        'wait_seconds_bucket{le="1.0"} 2\n'
        'wait_seconds_bucket{le="+Inf"} 3\n'
        "wait_seconds_sum 4.5\n"
        "wait_seconds_count 3\n"
        "# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Energy (in mJ).\n"
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n"
        'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0"} 123456789\n'
    )


def test_open_metrics() -> None:
    assert render(PAGE, "openmetrics").body.decode() == (
        "# HELP net_bytes Bytes.\n"
        "# TYPE net_bytes counter\n"
        "# UNIT net_bytes bytes\n"
        'net_bytes_total{device="eth0"} 10\n'
        'net_bytes_total{device="lo"} 20\n'
        '# HELP load1 The \\"load\\"\\\\now\\nhere.\n'
        "# TYPE load1 gauge\n"
        "load1 0.25\n"
        "# HELP vmstat_pgfault Faults.\n"
        "# TYPE vmstat_pgfault unknown\n"
        "vmstat_pgfault 7\n"
        "# HELP wait_seconds Waiting.\n"
        "# TYPE wait_seconds histogram\n"
        "# UNIT wait_seconds seconds\n"
        'wait_seconds_bucket{le="0.5"} 1\n'
        'wait_seconds_bucket{le="1.0"} 2\n'
        'wait_seconds_bucket{le="+Inf"} 3\n'
        "wait_seconds_sum 4.5\n"
        "wait_seconds_count 3\n"
        "# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Energy (in mJ).\n"
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION unknown\n"
        'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0"} 123456789\n'
        "# EOF\n"
    )


def test_an_empty_page() -> None:
    assert render([], "text").body == b""
    assert render([snapshot([])], "openmetrics").body == b"# EOF\n"


def test_new_numbers_in_the_same_layout_are_shown() -> None:
    first = snapshot([Sample(LOAD, 1)])
    values = first.values + 1
    second = Snapshot(first.source, 2_000, True, first.layout, values)
    assert b"load1 1\n" in render([first], "text").body
    assert b"load1 2\n" in render([second], "text").body


def test_families_of_several_sources_are_merged_under_one_heading() -> None:
    two = [snapshot([Sample(LOAD, n, labels(target=str(n)))]) for n in (1, 2)]
    page = render(two, "text").body.decode()
    assert page.count("# TYPE load1") == 1
    assert page.endswith('load1{target="1"} 1\nload1{target="2"} 2\n')


def test_a_duplicate_is_refused_and_counted_and_the_first_stays() -> None:
    page = render([snapshot([Sample(LOAD, 1)]), snapshot([Sample(LOAD, 2)])], "text")
    assert (page.series, page.duplicates) == (1, 1)
    assert page.body.endswith(b"load1 1\n")


def test_a_counter_whose_short_name_is_taken_is_of_unknown_type() -> None:
    taken = Family("net_bytes", "gauge", "Bytes now.")
    body = render([snapshot([Sample(BYTES, 1), Sample(taken, 2)])], "openmetrics").body.decode()
    assert "# TYPE net_bytes_total unknown\n" in body
    assert [family.name for family in parse_open_metrics(body)] == ["net_bytes_total", "net_bytes"]


def test_a_colon_in_a_name_stays() -> None:
    engine = Family("vllm:num_requests_waiting", "gauge", "Waiting.")
    for form, _ in PARSERS:
        body = render([snapshot([Sample(engine, 3)])], form).body
        assert b"\nvllm:num_requests_waiting 3\n" in body


def test_an_exemplar_stands_after_its_bucket_in_open_metrics_alone() -> None:
    example = Exemplar(labels(trace_id="abc"), 0.4, 1_700_000_000_123)
    too_long = Exemplar(labels(trace_id="x" * 130), 0.4, 1)
    samples = [
        Sample(WAIT, 1, labels(le="0.5"), "_bucket"),
        Sample(WAIT, 1, labels(le="+Inf"), "_bucket"),
        Sample(LOAD, 1),
    ]
    page = [
        snapshot([Sample(FAULTS, 1)]),
        snapshot(samples, exemplars={0: example, 1: too_long, 2: example}),
    ]
    text = render(page, "openmetrics").body.decode()
    assert 'le="0.5"} 1 # {trace_id="abc"} 0.4 1700000000.123\n' in text
    assert text.count(" # {") == 1
    assert b"trace_id" not in render(page, "text").body
    (bucket, *_) = next(f for f in parse_open_metrics(text) if f.name == "wait_seconds").samples
    assert bucket.exemplar is not None and bucket.exemplar.labels == {"trace_id": "abc"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (1e15, "1000000000000000"),
        (1e16, "1e+16"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (2.0**64 - 1, "1.8446744073709552e+19"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(width=64))
def test_a_number_reads_back_bit_for_bit(value: float) -> None:
    back = float(number_text(value))
    assert math.isnan(back) if math.isnan(value) else same_bits(back, value)


def same_bits(a: float, b: float) -> bool:
    return struct.pack("d", a) == struct.pack("d", b)


# The parsers split lines at \n, but Python's str.splitlines at more; "\r" is theirs to trip over.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20)


@given(value=TEXTS, help=TEXTS, number=st.floats(allow_nan=False))
@example(value='\\"\n\\n', help='\\"\n\\n', number=1.0)
def test_what_is_escaped_reads_back(value: str, help: str, number: float) -> None:
    family = Family("some_thing", "gauge", help)
    page = [snapshot([Sample(family, number, labels(a=value, b='"'))])]
    for form, parse in PARSERS:
        (found,) = parse(render(page, form).body.decode())
        (sample,) = found.samples
        assert sample.labels == dict(labels(a=value, b='"'))
        assert sample.value == number


def test_both_parsers_read_the_whole_page() -> None:
    for form, parse in PARSERS:
        families = list(parse(render(PAGE, form).body.decode()))
        assert sum(len(family.samples) for family in families) == 10


@pytest.mark.parametrize(("form", "parse"), PARSERS)
def test_a_page_of_many_series_comes_in_slices_and_is_the_same(form: Format, parse: Parser) -> None:
    many = [
        *(Sample(LOAD, n, labels(n=str(n))) for n in range(5_000)),
        *(Sample(Family(f"f{n}", "gauge", "F."), n) for n in range(3_000)),
    ]
    page = [*PAGE, snapshot(many)]
    assert sum(1 for _ in rendered(page, form)) >= 4
    body = at_once(rendered(page, form)).body
    assert body == render(page, form).body
    found = [sample for family in parse(body.decode()) for sample in family.samples]
    loads = {sample.labels["n"]: sample.value for sample in found if "n" in sample.labels}
    assert loads == {str(n): n for n in range(5_000)}
    assert {sample.name for sample in found if sample.name[0] == "f"} == {
        f"f{n}" for n in range(3_000)
    }


@pytest.mark.parametrize("filtered", [False, True])
def test_series_that_an_engine_names_anew_each_round_are_let_go(filtered: bool) -> None:
    one = snapshot([Sample(LOAD, 1.0)])
    names = frozenset({LOAD.name})
    former: list[weakref.ref[Layout]] = []
    for _ in range(3):
        layout = Layout(one.series * 150_000)
        former.append(weakref.ref(layout))
        shown = replace(one, layout=layout, values=np.ones(150_000))
        page = render([only(shown, names, names) if filtered else shown], "text")
        assert page.series == 1
        del layout, shown
    gc.collect()
    assert [layout() is None for layout in former] == [True, True, False]


def test_a_number_is_written_as_it_is_now_whatever_the_last_page_said() -> None:
    first = snapshot([Sample(LOAD, 1), Sample(FAULTS, 7), Sample(BYTES, 3)])
    numbers = [
        ([0.0, 7.0, 3.0], ["0", "7", "3"]),
        ([-0.0, 7.0, 4.0], ["-0", "7", "4"]),
        ([math.nan, 8.0, 4.0], ["NaN", "8", "4"]),
        ([math.nan, math.inf, 0.5], ["NaN", "+Inf", "0.5"]),
    ]
    for values, written in numbers * 2:
        now = replace(first, values=np.array(values))
        example = {2: Exemplar(labels(trace="a"), 1, 1000)}
        for _ in range(2):
            text = render([now], "text").body.decode()
            assert [line.split()[-1] for line in text.splitlines() if line[0] != "#"] == written
        assert b" # {" in render([replace(now, exemplars=example)], "openmetrics").body
        assert b" # {" not in render([now], "openmetrics").body, "an example is of its page alone"


def test_the_numbers_of_a_large_page_are_not_kept_and_are_right_all_the_same() -> None:
    rows = [Sample(BYTES, n, labels(device=str(n))) for n in range(20_001)]
    first = snapshot(rows)
    for more in (0.0, 0.5):
        lines = render([replace(first, values=first.values + more)], "text").body.split(b"\n")
        assert float(lines[-2].split()[-1]) == 20_000 + more and len(lines) == 20_004
