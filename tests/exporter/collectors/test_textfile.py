"""Files that others leave: what is right is on the page, what is wrong costs its file alone."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser as text_parser

from support.node_exporter import page, running_node_exporter
from support.site import only, recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors import textfile
from tocsin_exporter.collectors.textfile import Textfile
from tocsin_exporter.exposition import render
from tocsin_exporter.snapshot import Labels, LayoutCache, Sample, Snapshot, Source

Rows = dict[tuple[str, Labels], float]

GOOD = """\
# HELP backup_age_seconds Age of the last backup.
# TYPE backup_age_seconds gauge
backup_age_seconds{disk="a \\"b\\""} 12.5
backup_runs_total 3
# TYPE wait_seconds histogram
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 6.5
wait_seconds_count 4
# TYPE size summary
size{quantile="0.5"} 1.5
size_sum 2
size_count 1
"""


async def read(pattern: Path | str) -> Rows:
    return table(await samples(collector(pattern)))


async def samples(reader: Textfile) -> list[Sample]:
    try:
        return list(await reader.collect())
    finally:
        reader.close()


def collector(pattern: Path | str) -> Textfile:
    return Textfile(recorded_site(settings=CollectorSettings(textfile_directory=str(pattern))))


def put(directory: Path, **files: str) -> None:
    for name, content in files.items():
        (directory / f"{name}.prom").write_text(content)


async def test_without_a_directory_nothing_is_wrong() -> None:
    assert await read("") == {("node_textfile_scrape_error", ()): 0}


async def test_a_file_is_passed_on_with_the_second_of_its_last_change(tmp_path: Path) -> None:
    put(tmp_path, good=GOOD)
    (tmp_path / "notes.txt").write_text("not for us")
    os.utime(tmp_path / "good.prom", (1, 1_700_000_000.75))
    rows = await read(tmp_path)
    assert only(rows, "backup_age_seconds", disk='a "b"') == 12.5
    assert only(rows, "wait_seconds_bucket", le="+Inf") == 4
    assert only(rows, "size_sum") == 2
    name = str(tmp_path / "good.prom")
    assert only(rows, "node_textfile_mtime_seconds", file=name) == 1_700_000_000
    assert only(rows, "node_textfile_scrape_error") == 0


BAD = {
    "a timestamp": "a 1 1700000000000\n",
    "no value": "a\n",
    "no number": "a one\n",
    "digits with underscores": "a 1_0\n",
    "half a line": 'a{b="c',
    "twice": 'a{b="1",c="2"} 1\na{c="2",b="1"} 2\n',
    "two types": "# TYPE a gauge\n# TYPE a gauge\na 1\n",
    "no type": "# TYPE a meter\na 1\n",
    "a name": "1a 3\n",
    "not UTF-8": 'a{b="\udcff"} 1\n',
    "ours": "node_textfile_scrape_error 0\n",
    "another type than the host's": "# TYPE node_load1 counter\nnode_load1 3\n",
    "another type": "# TYPE backup_age_seconds counter\nbackup_age_seconds 1\n",
    "a series of the file before": "backup_runs_total 4\n",
}


@pytest.mark.parametrize("why", BAD)
async def test_a_bad_file_is_named_and_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    put(tmp_path, good=GOOD)
    alone = await read(tmp_path)
    (tmp_path / "later.prom").write_bytes(
        ("# TYPE other gauge\nother 1\n" + BAD[why]).encode("utf-8", "surrogateescape")
    )
    reader = collector(tmp_path)
    with caplog.at_level(logging.INFO):
        first = table(await reader.collect())
        again = table(await samples(reader))
    alone["node_textfile_scrape_error", ()] = 1
    assert first == again == alone
    named = [record for record in caplog.records if "left out" in record.message]
    assert [record.__dict__["file"] for record in named] == [str(tmp_path / "later.prom")]


async def test_what_was_repaired_is_there_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, a="a x\n")
    reader = collector(tmp_path)
    with caplog.at_level(logging.INFO):
        assert only(table(await reader.collect()), "node_textfile_scrape_error") == 1
        put(tmp_path, a="a 17\n")
        rows = table(await samples(reader))
    assert only(rows, "a") == 17
    assert only(rows, "node_textfile_scrape_error") == 0
    assert "text file is read again" in caplog.text


async def test_too_much_is_refused(tmp_path: Path) -> None:
    lines = "".join(f'a{{b="{number}"}} 1\n' for number in range(textfile.MOST_SERIES + 1))
    put(tmp_path, b=lines, c="x" * (textfile.MOST_BYTES + 1), d="d 1\n")
    os.mkfifo(tmp_path / "e.prom")
    (tmp_path / "f.prom").mkdir()
    rows = await read(tmp_path)
    assert only(rows, "d") == 1
    assert {name for name, _ in rows} == {
        "d",
        "node_textfile_mtime_seconds",
        "node_textfile_scrape_error",
    }
    assert only(rows, "node_textfile_scrape_error") == 1


async def test_all_files_together_have_a_bound(tmp_path: Path) -> None:
    half = textfile.MOST_SERIES // 2 + 1
    many = "".join(f'{{b="{number}"}} 1\n' for number in range(half)).split("\n")[:-1]
    put(tmp_path, a="".join(f"a{of}\n" for of in many), b="".join(f"b{of}\n" for of in many))
    names = [name for name, _ in await read(tmp_path)]
    assert (names.count("a"), names.count("b")) == (half, 0)


async def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert await read(tmp_path / "none") == {("node_textfile_scrape_error", ()): 1}


async def test_it_is_node_exporters_page(tmp_path: Path) -> None:
    """Two directories by one pattern, a family in two files, and helps that are not given."""
    for place, content in {"one": GOOD, "two": 'backup_runs_total{host="b"} 9\nfree 1e3\n'}.items():
        (tmp_path / place).mkdir()
        put(tmp_path / place, x=content)
    pattern = f"{tmp_path}/*"
    with running_node_exporter(
        ["textfile"], f"--collector.textfile.directory={pattern}"
    ) as address:
        theirs = page(address)
    layout, values = LayoutCache().build(await samples(collector(pattern)))
    snapshot = Snapshot(Source("node", "h"), 0, ok=True, layout=layout, values=values)
    ours = render([snapshot], "text").body.decode()
    assert said(ours) == said(theirs)


def said(text: str) -> Sequence[object]:
    """Families with their series; a bound is a number, however it is written."""
    own = ("node_scrape", "node_exporter", "promhttp")
    families = text_parser.text_string_to_metric_families(text)
    return sorted(
        (family.name, family.type, family.documentation, sorted(map(row, family.samples)))
        for family in families
        if not family.name.startswith(own)
    )


def row(sample: Any) -> tuple[str, list[tuple[str, str]], str]:
    bounds = {k: repr(float(v)) for k, v in sample.labels.items() if k in ("le", "quantile")}
    return sample.name, sorted({**sample.labels, **bounds}.items()), repr(float(sample.value))


@given(st.text(max_size=300))
def test_no_text_is_a_bug(text: str) -> None:
    try:
        parsed = textfile.parse(text)
    except ValueError as error:
        assert str(error).startswith("line ")
        return
    assert all(isinstance(value, float) for value in parsed.rows.values())
