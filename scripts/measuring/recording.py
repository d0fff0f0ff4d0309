"""Pages of a running agent, kept as they came: a file a scrape, named for its time."""

import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

SCRAPE_SECONDS = 5.0


def record(url: str, folder: Path, seconds: float, every: float = SCRAPE_SECONDS) -> int:
    """Scrapes `url` as a Prometheus would, at even times; how many pages there are then."""
    folder.mkdir(parents=True, exist_ok=True)
    end, due = time.time() + seconds, time.time()
    while due < end:
        time.sleep(max(0.0, due - time.time()))
        at_ms = round(time.time() * 1000)
        with urlopen(url, timeout=every) as answer:
            page = answer.read()
        (folder / f"{at_ms}.prom.gz").write_bytes(gzip.compress(page, 5))
        due += every
    return len(list(folder.glob("*.prom.gz")))


def pages(folder: Path) -> Iterator[tuple[int, str]]:
    """(Unix ms, page), ascending."""
    for path in sorted(folder.glob("*.prom.gz"), key=lambda one: int(one.name.split(".")[0])):
        yield int(path.name.split(".")[0]), gzip.decompress(path.read_bytes()).decode()


def samples(page: str) -> Iterator[tuple[str, float]]:
    """Each line of a page in the text format: the series as it is written, and the value."""
    for line in page.splitlines():
        if line and not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            yield series, float(value)
