"""Figures for people and for programs."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Columns as wide as what is in them; the first to the left, numbers to the right."""
    texts = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    lines = []
    for first, *others in texts:
        cells = [one.rjust(width) for one, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def circumstances() -> dict[str, Any]:
    """What a figure must be read with."""
    load = [round(one, 2) for one in os.getloadavg()]
    return {"cpus": os.cpu_count(), "load_average": load, "python": platform.python_version()}


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")


def _text(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:.1f}"
