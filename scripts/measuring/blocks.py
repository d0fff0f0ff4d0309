"""The same recorded pages as Prometheus's blocks and as our segments: bytes on disk."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from measuring.processes import binary
from measuring.recording import pages, samples
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.target_labels import METRIC_NAME, stored_labels, synthetic_labels
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

SOURCE = Source("tocsin", "127.0.0.1:4911")
DAY_MS = 86_400_000


def blocks(recording: Path, folder: Path) -> tuple[int, int]:
    """Bytes of what promtool makes of the pages: chunks, index and all; of the chunks alone."""
    text, out = folder / "pages.om", folder / "blocks"
    known: dict[str, Series] = {}
    texts: dict[str, str] = {}
    with text.open("w") as file:
        for at_ms, page in pages(recording):
            lines = _stored_lines(page, known, texts)
            file.writelines(f"{line} {at_ms / 1000:.3f}\n" for line in lines)
        file.write("# EOF\n")
    command = [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", text, out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sizes = {one: one.stat().st_size for one in out.rglob("*") if one.is_file()}
    chunks = sum(size for one, size in sizes.items() if one.parent.name == "chunks")
    return sum(sizes.values()), chunks


def segments(recording: Path, folder: Path) -> tuple[int, int]:
    """Bytes of our segments, one an hour as the agent writes them, and how many samples."""
    shelf = BlockStore(folder, 16 * DAY_MS, 2**34)
    archive = DiskPersistence(folder, shelf)
    store = Store(persistence=archive)
    archive.start(store)
    layouts: dict[tuple[str, ...], Layout] = {}
    series: dict[str, Series] = {}
    count = at_ms = 0
    for at_ms, page in pages(recording):
        found = dict(samples(page))
        key = tuple(found)
        if key not in layouts:
            layouts[key] = Layout(tuple(_parsed(text, series) for text in key))
        values = np.fromiter(found.values(), np.float64, len(found))
        store.append(Snapshot(SOURCE, at_ms, True, layouts[key], values))
        store.expire(at_ms)
        archive.tick()
        count += len(values) + 3
    archive.seal(at_ms + 1)
    archive.close()
    return sum(one.stat().st_size for one in folder.glob("*.seg")), count


def _stored_lines(page: str, known: dict[str, Series], texts: dict[str, str]) -> Iterator[str]:
    """The page as a Prometheus stores it: with its target, and what a scrape adds."""
    count = 0
    for text, value in samples(page):
        count += 1
        if text not in texts:
            texts[text] = _text(stored_labels(SOURCE, _parsed(text, known)))
        yield f"{texts[text]} {value!r}"
    added = zip(synthetic_labels(SOURCE), (1.0, 0.0, float(count)), strict=True)
    yield from (f"{_text(one)} {value!r}" for one, value in added)


def _text(stored: Labels) -> str:
    own = dict(stored)
    name = own.pop(METRIC_NAME)
    pairs = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in own.items())
    return f"{name}{{{','.join(pairs)}}}"


def _parsed(text: str, known: dict[str, Series]) -> Series:
    """A series as it is written on a page."""
    if text not in known:
        (family,) = text_string_to_metric_families(f"{text} 0\n")
        (sample,) = family.samples
        known[text] = Series(
            Family(sample.name, "untyped", ""), sample.name, labels(**sample.labels)
        )
    return known[text]
