import gzip
import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.backtest.samples_file import InvalidSamples, parse_samples, read_samples
from tocsin_alerting.rules.series_notation import parse_metric
from tocsin_exporter.snapshot import Labels

TEXT = """# TYPE up gauge
up{instance="a b",job="x"} 1 1700000000
up{instance="a b",job="x"} 0 1700000015.5
weird{text="1 # {\\"}"} +Inf 1700000000
bucket{le="1"} 3 1700000000 # {trace="z"} 0.5
{__name__="dumped"} NaN 1700000030000

# EOF
"""


def parsed(data: str | bytes) -> dict[Labels, tuple[list[int], list[float]]]:
    """The series of a file x.om of these bytes, as lists."""
    raw = data.encode() if isinstance(data, str) else data
    found = parse_samples(io.BytesIO(raw), "x.om")
    return {
        labels: (np.asarray(times).tolist(), np.asarray(values).tolist())
        for labels, (times, values) in found.items()
    }


def test_openmetrics_and_dumps_with_their_times() -> None:
    series = parsed(TEXT)
    up = series[(("__name__", "up"), ("instance", "a b"), ("job", "x"))]
    assert up == ([1_700_000_000_000, 1_700_000_015_500], [1.0, 0.0])
    assert series[(("__name__", "bucket"), ("le", "1"))] == ([1_700_000_000_000], [3.0])
    assert series[(("__name__", "dumped"),)][0] == [1_700_000_030_000]
    assert series[(("__name__", "weird"), ("text", '1 # {"}'))][1] == [float("inf")]


NAMES = st.sampled_from(
    [
        "up",
        "u",
        "up_two",
        'm{a="b"}',
        'm{a="c"}',
        'm{a="b c"}',
        'm{a="#"}',
        'long{a="0123456789",b="x"}',
    ]
)
NUMBERS = st.one_of(st.floats(), st.integers(-(10**20), 10**20), st.sampled_from(["+Inf", "1e-7"]))
SECONDS = st.integers(0, 2_000_000_000).map(str) | st.floats(0, 2e9).map(lambda at: f"{at:.3f}")
ENDS = st.sampled_from(["\n"] * 6 + ["\r\n", " \n", ' # {t="z"} 1 2\n', "\n\n", "\n# EOF\n"])
GAPS = st.sampled_from([" "] * 9 + ["  ", "\t"])


@given(st.lists(st.tuples(NAMES, GAPS, NUMBERS, GAPS, SECONDS, ENDS), min_size=1, max_size=40))
def test_many_lines_say_what_each_says_alone(lines: list[tuple[str, ...]]) -> None:
    texts = ["".join(map(str, parts)) for parts in lines]
    wanted: dict[Labels, tuple[list[int], list[float]]] = {}
    for name, _, value, _, seconds, _ in lines:
        times, values = wanted.setdefault(parse_metric(name, quoted=True), ([], []))
        times.append(round(float(seconds) * 1000))
        values.append(float(value))
    found = parsed("".join(texts))
    assert sorted(map(repr, found.items())) == sorted(map(repr, wanted.items()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("up 1\n", "x.om:1:1: no sample with a time"),
        ("up 1 1700000000\nup one 1700000015\n", 'x.om:2:4: "one 1700000015" is not a number'),
        ("up 1 1700000000\nup 1_0 1700000015\n", 'x.om:2:4: "1_0 1700000015" is not a number'),
        ("up 1.5.5 1700000000\nup x 1\n", 'x.om:1:4: "1.5.5 1700000000" is not a number'),
        ("up{ 1 1700000000\n", "x.om:1:1: "),
        ("up 1 nan\n", 'x.om:1:4: "1 nan" is not a number and a time'),
        ("up 1 -Inf\n", 'x.om:1:4: "1 -Inf" is not a number and a time'),
        ("up 1 1e18\n", 'x.om:1:4: "1 1e18" is not a number and a time'),
        ("\n# EOF\n", "x.om:2:1: no samples; write name"),
        ("", "x.om:1:1: no samples; write name"),
        (b"up 1 1700000000\nu\xffp 1 1700000015\n", "x.om:2:2: not text (byte 0xff); write name"),
        (b"\x7fELF\x02\x01\x01\0\0\0 1 1\n", "x.om:1:8: not text (byte 0x00); write name"),
        (b"\x89PNG\r\n\x1a\n", "x.om:1:1: not text (byte 0x89); write name"),
        (b"x" * (20 << 20), "x.om:1:1: a line of more than 1,048,576 bytes; write name"),
    ],
)
def test_what_is_wrong_has_its_place(text: str | bytes, why: str) -> None:
    with pytest.raises(InvalidSamples) as raised:
        parsed(text)
    assert str(raised.value).startswith(why)


def test_gzipped_is_the_same_and_noise_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "x.om.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert len(read_samples(packed)) == 4
    whole = gzip.compress(TEXT.encode())
    for broken in (whole[:-9], whole[:40], whole[:20] + b"\0\xff" * 20 + whole[60:]):
        packed.write_bytes(broken)
        with pytest.raises(InvalidSamples, match=r"x.om.gz:1:1: the compressed data ends or"):
            read_samples(packed)


def test_lines_of_one_series_need_not_follow_each_other() -> None:
    lines = [f'm{{s="{at % 3}"}} {at} {1_700_000_000 + at}\n' for at in range(3_000)]
    found = parsed("".join(lines))
    for number in range(3):
        times, values = found[(("__name__", "m"), ("s", str(number)))]
        assert values == [float(at) for at in range(number, 3_000, 3)]
        assert times == [(1_700_000_000 + at) * 1000 for at in range(number, 3_000, 3)]


def test_a_file_of_many_blocks(tmp_path: Path) -> None:
    """A line that lies across two of them is one line, and an error has the line of the file."""
    labels = 'm{text="' + "y" * 200 + '"}'
    text = "".join(f"{labels} {at} {1_700_000_000 + at}\n" for at in range(90_000))
    (tmp_path / "x.om").write_text(text)
    ((times, values),) = read_samples(tmp_path / "x.om").values()
    assert np.asarray(values).tolist() == list(range(90_000))
    assert np.asarray(times)[[0, -1]].tolist() == [1_700_000_000_000, 1_700_089_999_000]
    (tmp_path / "x.om").write_text(text + "m 1\n")
    with pytest.raises(InvalidSamples, match="x.om:90001:1: no sample with a time"):
        read_samples(tmp_path / "x.om")


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_byte_order_mark_is_no_part_of_a_name(
    packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "x.om").write_bytes(packed(b"\xef\xbb\xbfup 1 1700000000\r\n# EOF\r\n"))
    ((labels, (times, values)),) = read_samples(tmp_path / "x.om").items()
    assert labels == (("__name__", "up"),)
    assert (list(times), list(values)) == ([1_700_000_000_000], [1.0])


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a file is needed"):
        read_samples(tmp_path / "pipe")


def test_the_dump_of_a_real_tsdb(tmp_path: Path) -> None:
    promtool = "/usr/bin/promtool"
    if not Path(promtool).exists():
        pytest.skip("promtool is not installed")
    (tmp_path / "x.om").write_text("\n".join(TEXT.splitlines()[:3]) + "\n# EOF\n")
    blocks = [promtool, "tsdb", "create-blocks-from", "openmetrics", "x.om", "data"]
    subprocess.run(blocks, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "data" / "wal").mkdir()  # which it looks for
    dump = [promtool, "tsdb", "dump", "data"]
    printed = subprocess.run(dump, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert parsed(printed.stdout) == parsed("\n".join(TEXT.splitlines()[:3]) + "\n")
