"""docs/metrics.md: `python -m tocsin_exporter.catalogue.markdown > docs/metrics.md`."""

import sys
from collections.abc import Iterable, Iterator

from tocsin_exporter.catalogue import TABLES
from tocsin_exporter.catalogue.table import OpenRow, Table
from tocsin_exporter.snapshot import Family

_INTRODUCTION = """\
# Metrics

Every metric that the exporter may put on its page, generated from `tocsin_exporter/catalogue`.
What a machine does not have (a GPU, swap, an engine that says so) is absent, never 0.

The names of the host are node_exporter's, those of GPUs dcgm-exporter's, and those of process
groups process-exporter's, so that their dashboards and rules work unchanged. `{}` stands for a
name that the kernel gives. A histogram has `_bucket`, `_sum` and `_count`.
"""


def document() -> str:
    return _INTRODUCTION + "".join(_section(area, table) for area, table in TABLES.items())


def _section(area: str, table: Table) -> str:
    rows = [_row(family, table.labels[family.name]) for family in table.values()]
    lines = "\n".join((*rows, *_open_rows(table.open_rows)))
    return (
        f"\n## {area}\n\n| metric | type | unit | labels | help |\n|---|---|---|---|---|\n{lines}\n"
    )


def _open_rows(rows: Iterable[OpenRow]) -> Iterator[str]:
    for row in rows:
        yield _row(Family(row.name, row.type, row.help), ())


def _row(family: Family, labels: Iterable[str]) -> str:
    named = ", ".join(f"`{label}`" for label in labels)
    cells = (f"`{family.name}`", family.type, family.unit, named, family.help)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(document())
