"""The text format, as hostile engines write it: linear in its length, in slices, bounded."""

import gc
import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from support.examples import examples
from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_dialects import VLLM, recognise
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.collectors.engine_text import (
    LONGEST_LINE,
    LONGEST_NAME,
    MOST_HEADINGS,
    EnginePageText,
)
from tocsin_exporter.collectors.engine_translation import OTHER, Translator
from tocsin_exporter.slices import SLICE, Work, at_once


def read(page: str) -> EnginePageText:
    return at_once(engine_text.read(page))


def whole(page: str) -> None:
    """All that is done with a page of vLLM's."""
    at_once(recognise(page))
    lines = read(page)
    at_once(Translator(VLLM, "h:1", LLM).samples(lines))
    original = OriginalPage("h:1")
    at_once(original.read("vllm", lines))


HOSTILE: dict[str, Callable[[int], str]] = {
    "braces": lambda n: 'vllm:x{a="' + "}" * n,
    "braces and quotes": lambda n: 'vllm:x{a="' + '}"' * n,
    "escaped quotes": lambda n: 'vllm:x{a="' + '\\"' * n,
    "backslashes": lambda n: 'vllm:x{a="' + "\\" * n + '"} 1',
    "labels": lambda n: "vllm:x{" + 'a="",' * n + "} 1",
    "labels and a rest": lambda n: "vllm:x{" + 'a="",' * n + "?} 1",
    "spaces": lambda n: 'vllm:x{a="b"' + " " * n + "} 1",
    "spaces before": lambda n: "vllm:x" + " " * n + "{} 1",
    "digits": lambda n: "vllm:x " + "1" * n,
    "exponent": lambda n: "vllm:x 1e" + "9" * n,
    "hashes": lambda n: 'vllm:x{a="b"} 1' + " # " * n,
    "models": lambda n: "vllm:x{" + 'model_name="undefined",' * n + "} 1",
    "help": lambda n: "# HELP vllm:x " + "\\n" * n,
    "type": lambda n: "# TYPE vllm:x" + " " * n + "gauge",
    "one name": lambda n: "v" * n + " 1",
    "blank lines": lambda n: "\n" * n,
    "short lines": lambda n: "vllm:x 1\n" * n,
    "other lines": lambda n: "".join(f"vllm:x{i} 1\n" for i in range(n)),
    "headings": lambda n: "".join(f"# TYPE vllm:x{i} gauge\n" for i in range(n)),
    "carriage returns": lambda n: "vllm:x 1\r" * n,
}


def seconds(page: str) -> float:
    began = time.process_time()
    whole(page)
    return time.process_time() - began


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("lines", [1, 20])
def test_four_times_as_long_takes_at_most_some_times_as_long(kind: str, lines: int) -> None:
    """16 times is what the square would be."""
    size = (LONGEST_LINE - 100) // len(HOSTILE[kind](1))
    short, long = (((HOSTILE[kind](n) + "\n") * lines) for n in (size // 4, size))
    assert seconds(long) < 9 * min(seconds(short) for _ in range(3)) + 0.05


@pytest.mark.parametrize("end", ["}", " " * 9, "?}"])
def test_a_series_of_many_labels_takes_time_by_its_length(end: str) -> None:
    times = []
    for count in (50_000, 200_000):
        began = time.process_time()
        engine_text.series("x{" + 'a="",' * count + end)
        times.append(time.process_time() - began)
    assert times[1] < 9 * times[0] + 0.05


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_line_that_is_too_long_costs_itself_alone(kind: str) -> None:
    hostile = HOSTILE[kind](400_000).replace("\n", " ").replace("\r", " ")
    lines = read(f"a 1\n{hostile}\nb 2\n")
    assert (lines.texts, lines.left_out) == (["a", "b"], 1)


def longest_slice(work: Work[object]) -> float:
    """Of its own work: a collection of all that other tests left takes half a second."""
    gc.freeze()
    longest = 0.0
    while True:
        began = time.process_time()
        try:
            next(work)
        except StopIteration:
            return longest
        finally:
            longest = max(longest, time.process_time() - began)


@pytest.mark.parametrize(
    "kind", ["other lines", "short lines", "blank lines", "headings", "braces"]
)
def test_no_slice_of_a_page_of_megabytes_takes_long(kind: str) -> None:
    page = HOSTILE[kind](2_000_000 // len(HOSTILE[kind](1)))
    lines = read(page)
    original = OriginalPage("h:1")
    translator = Translator(VLLM, "h:1", LLM)
    assert longest_slice(recognise(page)) < 0.1
    assert longest_slice(engine_text.read(page)) < 0.1
    assert longest_slice(translator.samples(lines)) < 0.25
    assert longest_slice(original.read("vllm", lines)) < 0.25


def test_series_over_the_limit_are_counted_and_not_read() -> None:
    lines = at_once(engine_text.read("a 1\nb 2\nc 3\n# TYPE d gauge\n", most=2))
    assert (lines.texts, lines.values) == (["a", "b"], [1.0, 2.0])
    assert lines.headings == ["# TYPE d gauge"]
    assert lines.left_out == 1


def test_comments_that_mean_nothing_are_not_kept_and_headings_have_a_bound() -> None:
    lines = read("#a\n" * 10_000 + "# b\n#HELP c c\n# HELP d d\n# TYPE d gauge\n")
    assert (lines.headings, lines.left_out) == (["# HELP d d", "# TYPE d gauge"], 0)
    lines = read("# TYPE d gauge\n" * (MOST_HEADINGS + 7))
    assert (len(lines.headings), lines.left_out) == (MOST_HEADINGS, 7)


def test_what_was_left_out_is_counted_by_the_translation() -> None:
    translator = Translator(VLLM, "h:1", LLM)
    at_once(translator.samples(at_once(engine_text.read("vllm:x 1\n" * 5, most=2))))
    assert translator.limited == 3


def test_a_name_without_end_stands_on_no_series_of_ours() -> None:
    page = f'vllm:num_requests_running{{model_name="{"m" * (LONGEST_NAME + 1)}"}} 1\n'
    translator = Translator(VLLM, "h:1", LLM)
    (sample,) = at_once(translator.samples(read(page)))
    assert dict(sample.labels)["model_name"] == OTHER and translator.limited == 1


@given(st.text(st.sampled_from('ab\n# {}"\\,=}1'), max_size=200), st.integers(1, 40))
def test_windows_are_the_page(page: str, repeated: int) -> None:
    page = page * repeated * 20
    found = list(engine_text.windows(page))
    assert "\n".join(found) == page.removesuffix("\n") or "\n".join(found) == page
    for part in found[:-1]:
        assert len(part) >= SLICE and "\n" not in part[SLICE:]


_piece = st.sampled_from(
    ["vllm:x", "# HELP ", "# TYPE ", "{", "}", '"', "\\", ",", "=", "a", 'a="b"', " ", "1", "e9",
     "NaN", "\n", "\r", "\t", "\u2028", "\x00", "#", " # {", "} 0.5", "histogram",
     "_bucket", 'le="'],
)  # fmt: skip
_hostile = st.lists(st.tuples(_piece, st.integers(1, 300)), max_size=30)


@settings(max_examples=examples(150), deadline=None)
@given(_hostile)
def test_whatever_stands_on_a_page_it_is_read(pieces: list[tuple[str, int]]) -> None:
    page = "".join(piece * times for piece, times in pieces)
    whole(page)
    lines = read(page)
    assert len(lines.texts) == len(lines.values)


_names = st.from_regex(r"[a-z_:][a-z0-9_:]{0,6}", fullmatch=True)
_values = st.dictionaries(
    st.from_regex(r"_?[a-z][a-z0-9_]{0,3}", fullmatch=True),
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('"\\}{#, '), max_size=9
    ),
    max_size=4,
)


def _line(name: str, labels: dict[str, str], value: float) -> str:
    pairs = (k + '="' + v.replace("\\", r"\\").replace('"', r"\"") + '"' for k, v in labels.items())
    return f"{name}{{{','.join(pairs)}}} {value!r}"


@given(st.lists(st.builds(_line, _names, _values, st.floats(allow_nan=False)), max_size=20))
def test_a_sane_page_is_read_as_prometheus_client_reads_it(lines: list[str]) -> None:
    page = "\n".join(lines) + "\n"
    found = read(page)
    ours = [(engine_text.series(t), v) for t, v in zip(found.texts, found.values, strict=True)]
    theirs = [
        ((sample.name, sample.labels), sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]
    assert sorted(map(repr, ours)) == sorted(map(repr, theirs))
    assert not any(math.isnan(value) for value in found.values)


_LINES = st.builds(_line, _names, _values, st.floats(allow_nan=False))


@given(st.lists(_LINES, min_size=1), st.data())
def test_a_page_that_is_cut_in_a_line_ends_early(lines: list[str], data: st.DataObject) -> None:
    """But where what is left of the line is one: half of a number is a number."""
    page = "\n".join(lines)
    assert not engine_text.ends_early(page) and not engine_text.ends_early(page + "\n")
    last = lines[-1]
    kept = data.draw(st.integers(1, last.rindex(" ")))
    assert engine_text.ends_early("\n".join([*lines[:-1], last[:kept]])) or not last[:kept].strip()


def test_openmetrics_ends_where_it_says() -> None:
    media = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert not engine_text.ends_early("vllm:x 1\n# EOF\n", media)
    assert not engine_text.ends_early("vllm:x 1\n# EOF", media)
    assert engine_text.ends_early("vllm:x 1\n", media)
    assert not engine_text.ends_early("vllm:x 1\n", "text/plain")
    assert engine_text.ends_early("vllm:x 1\n# TYPE vllm:num_re")
    assert engine_text.ends_early("vllm:x 1", framed=False)
    assert not engine_text.ends_early("vllm:x 1\n", framed=False)
    assert not engine_text.ends_early("vllm:x 1\n# that is all")
