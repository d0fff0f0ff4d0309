import gzip
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tocsin_alerting.backtest.samples_file import InvalidSamples, parse_samples, read_samples

TEXT = """# TYPE up gauge
up{instance="a b",job="x"} 1 1700000000
up{instance="a b",job="x"} 0 1700000015.5
weird{text="1 # {\\"}"} +Inf 1700000000
bucket{le="1"} 3 1700000000 # {trace="z"} 0.5
{__name__="dumped"} NaN 1700000030000

# EOF
"""


def test_openmetrics_and_dumps_with_their_times() -> None:
    series = parse_samples(TEXT.splitlines(keepends=True), "x.om")
    up = series[(("__name__", "up"), ("instance", "a b"), ("job", "x"))]
    assert up == ([1_700_000_000_000, 1_700_000_015_500], [1.0, 0.0])
    assert series[(("__name__", "bucket"), ("le", "1"))] == ([1_700_000_000_000], [3.0])
    assert series[(("__name__", "dumped"),)][0] == [1_700_000_030_000]
    assert series[(("__name__", "weird"), ("text", '1 # {"}'))][1] == [float("inf")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("up 1\n", "x.om:1:1: no sample with a time"),
        ("up 1 1700000000\nup one 1700000015\n", 'x.om:2:1: "one 1700000015" is not a number'),
        ("up{ 1 1700000000\n", "x.om:1:1: "),
        ("up 1 nan\n", 'x.om:1:1: "1 nan" is not a number and a time'),
        ("up 1 -Inf\n", 'x.om:1:1: "1 -Inf" is not a number and a time'),
        ("up 1 1e18\n", 'x.om:1:1: "1 1e18" is not a number and a time'),
        ("\n# EOF\n", "x.om: no samples"),
    ],
)
def test_what_is_wrong_has_its_place(text: str, why: str) -> None:
    with pytest.raises(InvalidSamples) as raised:
        parse_samples(text.splitlines(keepends=True), "x.om")
    assert str(raised.value).startswith(why)


def test_gzipped_is_the_same_and_noise_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "x.om.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert len(read_samples(packed)) == 4
    packed.write_bytes(gzip.compress(TEXT.encode())[:-9])
    with pytest.raises(InvalidSamples, match="not text"):
        read_samples(packed)
    packed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSamples, match="not text"):
        read_samples(packed)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_byte_order_mark_is_no_part_of_a_name(
    packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "x.om").write_bytes(packed(b"\xef\xbb\xbfup 1 1700000000\r\n# EOF\r\n"))
    assert read_samples(tmp_path / "x.om") == {(("__name__", "up"),): ([1_700_000_000_000], [1.0])}


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
    (tmp_path / "dump").write_text(printed.stdout)
    got = read_samples(tmp_path / "dump")
    wanted = parse_samples(TEXT.splitlines(keepends=True)[:3], "x.om")
    assert got == wanted
