"""Which format and encoding a scraper gets, from its Accept and Accept-Encoding headers."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tocsin_exporter.threads import Threads

Format = Literal["text", "openmetrics"]


@dataclass(frozen=True, slots=True)
class NegotiatedFormat:
    """`content_type` names the version that was asked for where we write several alike."""

    format: Format
    content_type: str


@dataclass(frozen=True, slots=True)
class NegotiatedNames:
    """How names are written that are UTF-8 and no Prometheus before 3 would read: one of
    ESCAPINGS."""

    escaping: str
    content_type: str


ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")
TEXT = NegotiatedFormat("text", "text/plain; version=0.0.4; charset=utf-8")
_OPEN_METRICS = "application/openmetrics-text"

# What we write, by media type and version. Nothing else is promised: not OpenMetrics 2.0, not
# text 1.0.0. The syntax that we write is the same in OpenMetrics 0.0.1 and 1.0.0.
_WRITTEN = {
    ("text/plain", ""): TEXT,
    ("text/plain", "0.0.4"): TEXT,
    ("text/*", ""): TEXT,
    ("*/*", ""): TEXT,
    **{
        (_OPEN_METRICS, asked): NegotiatedFormat(
            "openmetrics", f"{_OPEN_METRICS}; version={version}; charset=utf-8"
        )
        for asked, version in (("", "1.0.0"), ("1.0.0", "1.0.0"), ("0.0.1", "0.0.1"))
    },
}


@lru_cache(8)  # a scraper says the same each time
def negotiate(accept: str) -> NegotiatedFormat:
    """The format of the highest q that we write, the first of equals; text where none fits.

    A scraper that accepts nothing of ours gets text too: Prometheus' own libraries do the same,
    and a page that may be read is worth more than a 406.
    """
    best, best_quality = TEXT, 0.0
    for media, parameters, quality in _elements(accept):
        answer = _WRITTEN.get((media, parameters.get("version", "")))
        if answer is not None and quality > best_quality:
            best, best_quality = answer, quality
    return best


def negotiate_names(accept: str) -> NegotiatedNames:
    """For samples of others, which have a time each: always text, as Prometheus's `/federate`,
    because OpenMetrics has times in seconds, which do not come out as they went in."""
    escaping, version = "", "0.0.4"
    elements = sorted(_elements(accept), key=lambda element: -element[2])
    for media, parameters, _ in elements:
        if parameters.get("escaping") in ESCAPINGS:
            escaping = parameters["escaping"]
        asked = parameters.get("version", "0.0.4")
        if media == "text/plain" and asked in ("0.0.4", "1.0.0"):
            version = asked
            break
    said = f"; escaping={escaping}" if escaping else ""
    content_type = f"text/plain; version={version}; charset=utf-8{said}"
    return NegotiatedNames(escaping or "underscores", content_type)


@lru_cache(8)
def accepts_gzip(accept_encoding: str) -> bool:
    """gzip by name, or by `*` when it is not named."""
    if "gzip" not in (asked := accept_encoding.lower()) and "*" not in asked:
        return False
    qualities = {coding: quality for coding, _, quality in _elements(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _elements(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """`text/plain;version=0.0.4;q=0.5, */*` -> (name, parameters, q); a bad q counts as 0."""
    for element in header.split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        known = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        if name:
            yield name.lower(), known, _quality(known.get("q", "1"))


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


class Compression:
    """Compresses answers in `threads` of its own: hundreds of them keep no other thread busy. At
    most `most` are under way or wait, with their bodies; others go out as they are."""

    def __init__(self, threads: int = 2, most: int = 32) -> None:
        self._threads = Threads(threads, "compress")
        self._most = most
        self._waiting = 0

    async def compressed(self, work: Callable[[], bytes]) -> bytes | None:
        """The result of `work`; None where too many wait, or there is no room for a thread."""
        if self._waiting >= self._most:
            return None
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError:
            return None
        finally:
            self._waiting -= 1


compressed = Compression().compressed
