"""Which metrics an expression names, and which of them our page does not have."""

import re
from collections.abc import Collection
from functools import cache

from tocsin_exporter.catalogue import TABLES

_NAME = re.compile(
    r"\b(?:node|llm|gpu(?!_uuid)|DCGM_FI|namedprocess|tocsin|target:llm)_\w+(?::\w+)*"
)
_IN_STRINGS = re.compile(r'"[^"]*"')
_HISTOGRAM = ("", "_bucket", "_sum", "_count")


def named(expression: str) -> set[str]:
    """Names with one of our prefixes; text in quotes does not count."""
    return set(_NAME.findall(_IN_STRINGS.sub('""', expression)))


def unknown(expression: str, recorded: Collection[str] = ()) -> set[str]:
    """The names that neither the catalogue allows on our page nor a rule records."""
    return {n for n in named(expression) - set(recorded) if not _page().fullmatch(n)}


def on_our_page(name: str) -> bool:
    """Whether the catalogue allows a series of this name on our page."""
    return _page().fullmatch(name) is not None


@cache
def _page() -> re.Pattern[str]:
    families = [family for table in TABLES.values() for family in table.values()]
    closed = [
        re.escape(family.name + part)
        for family in families
        for part in (_HISTOGRAM if family.type == "histogram" else ("",))
    ]
    opened = [
        re.escape(row.name).replace(r"\{\}", r"\w+")
        for table in TABLES.values()
        for row in table.open_rows
    ]
    return re.compile("|".join(closed + opened))
