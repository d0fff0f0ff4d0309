"""Metrics that others leave in a directory: `*.prom` files in the Prometheus text format.

A file counts as a whole: one wrong line, a timestamp, a series that is there already or a type that
differs, and none of it is on the page. Its name is logged, node_textfile_scrape_error is 1, and the
other files stay. The directory may be on a dead server, so all of this is done on a HangGuard.
"""

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tocsin_exporter.catalogue import FABRICS, HARDWARE, HOST, KERNEL, NETWORK
from tocsin_exporter.collectors.engine_text import series, unescaped
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.files import file_bytes
from tocsin_exporter.snapshot import Family, Labels, MetricType, Sample, labels, sorted_labels

log = logging.getLogger(__name__)

MOST_BYTES = 4 << 20  # of one file
MOST_SERIES = 20_000  # of all files together
MOST_FILES = 1_000
_SUFFIX = ".prom"
_MTIME = KERNEL["node_textfile_mtime_seconds"]
_ERROR = KERNEL["node_textfile_scrape_error"]
_OURS = {**HOST, **NETWORK, **KERNEL, **HARDWARE, **FABRICS}
_TYPES: Mapping[str, MetricType] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "untyped": "untyped",
}
_PARTS: Mapping[str, Sequence[str]] = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
_HEADING = re.compile(r"#[ \t]+(HELP|TYPE)[ \t]+([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[ \t]+(.*))?")
_LINE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*+[ \t]*+(?:\{(?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+\})?)'
    r"[ \t]*+(\S++)[ \t]*+(\S++)?[ \t]*+"
)


@dataclass(slots=True)
class TextPage:
    """What one file says: types and helps by family, and its series in their order."""

    types: dict[str, MetricType] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    rows: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def family_of(self, name: str) -> tuple[str, str]:
        """The family that a series belongs to, and what its name adds to that."""
        for kind, suffixes in _PARTS.items():
            for suffix in suffixes:
                stem = name.removesuffix(suffix)
                if stem != name and self.types.get(stem) == kind:
                    return stem, suffix
        return name, ""


@dataclass(frozen=True, slots=True)
class _Known:
    """A file that was read, as long as its time and size stay."""

    stamp: tuple[int, int, int]
    page: TextPage | ValueError


class Textfile:
    name = "textfile"

    def __init__(self, host: Host) -> None:
        self._pattern = host.settings.textfile_directory
        self._known: dict[str, _Known] = {}
        self._said: dict[str, str] = {}
        self._guard = HangGuard("textfile")

    async def collect(self) -> Sequence[Sample]:
        if not self._pattern:
            return [Sample(_ERROR, 0)]
        return await self._guard.run(self._read)

    def close(self) -> None:
        self._guard.close()

    def _read(self) -> list[Sample]:
        wrong: dict[str, str] = {}
        pages: dict[str, TextPage] = {}
        for path in self._files(wrong):
            try:
                pages[path] = self._page(path)
            except (OSError, ValueError) as error:
                wrong[path] = _why(error)
        samples, refused = merged(pages)
        wrong.update(refused)
        for path in pages.keys() - refused.keys():
            mtime = self._known[path].stamp[0] // 10**9
            samples.append(Sample(_MTIME, mtime, labels(file=path)))
        self._say(wrong)
        return [*samples, Sample(_ERROR, float(bool(wrong)))]

    def _files(self, wrong: dict[str, str]) -> list[str]:
        """The files of all directories that the pattern means."""
        found: list[str] = []
        for directory in sorted(glob.glob(self._pattern)) or [self._pattern]:
            try:
                names = sorted(n for n in os.listdir(directory) if n.endswith(_SUFFIX))
            except OSError as error:
                wrong[directory] = _why(error)
                continue
            found += [os.path.join(directory, name) for name in names]
        for path in found[MOST_FILES:]:
            wrong[path] = f"there are more than {MOST_FILES} files"
        self._known = {p: known for p, known in self._known.items() if p in found}
        return found[:MOST_FILES]

    def _page(self, path: str) -> TextPage:
        """Read anew only when it changed. Raises OSError or ValueError."""
        about = os.stat(path)
        stamp = about.st_mtime_ns, about.st_size, about.st_ino
        known = self._known.get(path)
        if known is None or known.stamp != stamp:
            known = self._known[path] = _Known(stamp, _parsed(path))
        if isinstance(known.page, ValueError):
            raise known.page
        return known.page

    def _say(self, wrong: Mapping[str, str]) -> None:
        """Each fault once, and once more when it is another."""
        for path, why in wrong.items():
            if self._said.get(path) != why:
                log.warning("text file left out: %s", why, extra={"file": path})
        for path in self._said.keys() - wrong.keys():
            log.info("text file is read again", extra={"file": path})
        self._said = dict(wrong)


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _parsed(path: str) -> TextPage | ValueError:
    data = file_bytes(Path(path), MOST_BYTES)
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return ValueError(f"byte {error.start} is not UTF-8")
    except ValueError as error:
        return error


def parse(text: str) -> TextPage:
    """Raises ValueError, with the number of the line, for the first line that is not right."""
    page = TextPage()
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            _take(line.strip(" \t\r"), page)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return page


def _take(line: str, page: TextPage) -> None:
    if not line:
        return
    if line.startswith("#"):
        if match := _HEADING.fullmatch(line):
            _take_heading(match[1], match[2], match[3] or "", page)
        return
    match = _LINE.fullmatch(line)
    parsed = series(match[1]) if match else None
    if match is None or parsed is None:
        raise ValueError("no series with its value")
    if match[3] is not None:
        raise ValueError("a timestamp, which a file may not give")
    name, named = parsed
    key = name, sorted_labels(named)
    if key in page.rows:
        raise ValueError(f"{match[1]} is there twice")
    if len(page.rows) >= MOST_SERIES:
        raise ValueError(f"more than {MOST_SERIES:,} series")
    page.rows[key] = _value(match[2])


def _take_heading(kind: str, name: str, rest: str, page: TextPage) -> None:
    known = page.types if kind == "TYPE" else page.helps
    if name in known:
        raise ValueError(f"a second {kind} of {name}")
    if kind == "HELP":
        page.helps[name] = unescaped(rest)
    elif (type := _TYPES.get(rest.strip())) is not None:
        page.types[name] = type
    else:
        raise ValueError(f"{rest.strip()!r} is no type; there are {', '.join(_TYPES)}")


def _value(word: str) -> float:
    try:
        if "_" in word:
            raise ValueError
        return float(word)
    except ValueError:
        raise ValueError(f"{word[:60]!r} is no number") from None


def merged(pages: Mapping[str, TextPage]) -> tuple[list[Sample], dict[str, str]]:
    """The samples of all files, and why some files have none; of two the first by name wins."""
    families: dict[str, Family] = {}
    taken: set[tuple[str, Labels]] = set()
    samples: list[Sample] = []
    refused: dict[str, str] = {}
    helps = _helps(pages)
    for path, page in pages.items():
        own = _families(page, families, helps)
        if why := _refusal(page, own, taken):
            refused[path] = why
            continue
        families.update(own)
        taken.update(page.rows)
        samples += _samples(page, own)
    return samples, refused


def _samples(page: TextPage, families: Mapping[str, Family]) -> Iterator[Sample]:
    for (name, of), value in page.rows.items():
        stem, suffix = page.family_of(name)
        yield Sample(families[stem], value, of, suffix)


def _families(
    page: TextPage, known: Mapping[str, Family], helps: Mapping[str, str]
) -> dict[str, Family]:
    """Those of a page by name: as ours or another file has them, where that is so."""
    names = {page.family_of(name)[0] for name, _ in page.rows}
    made = {n: Family(n, page.types.get(n, "untyped"), helps[n]) for n in sorted(names)}
    return {n: _OURS.get(n) or known.get(n) or family for n, family in made.items()}


def _refusal(
    page: TextPage, families: Mapping[str, Family], taken: Iterable[tuple[str, Labels]]
) -> str:
    """Why a file must be left out, "" if it need not be."""
    for name, family in families.items():
        if name in (_MTIME.name, _ERROR.name):
            return f"{name} is this collector's own"
        if family.type != page.types.get(name, "untyped"):
            return f"{name} is a {family.type} elsewhere"
    if len(page.rows) + len(set(taken)) > MOST_SERIES:
        return f"there are more than {MOST_SERIES:,} series in all files"
    if twice := page.rows.keys() & set(taken):
        return f"{min(twice)[0]} is in another file too"
    return ""


def _helps(pages: Mapping[str, TextPage]) -> dict[str, str]:
    """What a family is said to be, or which files it comes from."""
    files: dict[str, list[str]] = {}
    helps: dict[str, str] = {}
    for path, page in pages.items():
        for name in dict.fromkeys(page.family_of(name)[0] for name, _ in page.rows):
            files.setdefault(name, []).append(path)
            if name in page.helps:
                helps.setdefault(name, page.helps[name])
    return {
        name: helps.get(name, f"Metric read from {', '.join(paths)}")
        for name, paths in files.items()
    }
