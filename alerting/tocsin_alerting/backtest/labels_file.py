"""Incidents that somebody has judged, as CSV: `start,end,alertname,real`, the last two optional,
parted by commas, semicolons or tabs."""

import csv
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import chain

from tocsin_alerting.backtest.report import LabelledIncident
from tocsin_alerting.time_format import read_seconds

_COLUMNS = ("start", "end", "alertname", "real")
_REAL = {"": True, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class InvalidJudgement(ValueError):
    """A file that is not such a table, with the place of what is wrong."""


def read_labels(lines: Iterable[str], path: str) -> tuple[LabelledIncident, ...]:
    """Times are RFC 3339 (UTC without a zone) or Unix seconds; what parts the columns is what parts
    those of the head. Raises InvalidJudgement."""
    rows = iter(lines)
    head = next(rows, "")
    table = csv.DictReader(chain((head,), rows), delimiter=_separator(head))
    _check_columns(table.fieldnames or (), path)
    return tuple(_incident(row, f"{path}:{table.line_num}:1") for row in table)


def _separator(head: str) -> str:
    """A spreadsheet writes `;` where the comma is in its numbers, and some write tabs."""
    return max(",;\t", key=head.count)


def _check_columns(names: Iterable[str], path: str) -> None:
    names = list(names)
    for name in names:
        if name not in _COLUMNS:
            near = get_close_matches(str(name), _COLUMNS, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise InvalidJudgement(f'{path}:1:1: unknown column "{name}"{hint}')
    missing = [name for name in ("start", "end") if name not in names]
    if missing:
        raise InvalidJudgement(
            f"{path}:1:1: no column {missing[0]}; write start,end,alertname,real"
        )


def _incident(row: Mapping[str, str | None], place: str) -> LabelledIncident:
    start_ms, end_ms = (_time_ms(row[name] or "", f"{place}: {name}") for name in ("start", "end"))
    if end_ms < start_ms:
        raise InvalidJudgement(f"{place}: the end is before the start")
    word = (row.get("real") or "").strip().lower()
    if word not in _REAL:
        raise InvalidJudgement(f'{place}: real is "{word}"; write true or false')
    return LabelledIncident(start_ms, end_ms, (row.get("alertname") or "").strip(), _REAL[word])


def _time_ms(text: str, place: str) -> int:
    seconds = read_seconds(text.strip())
    if seconds is not None and math.isfinite(seconds * 1000):
        return round(seconds * 1000)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        why = f'"{text}" is not a time; write 2026-01-31T03:00:00Z or Unix seconds'
        raise InvalidJudgement(f"{place}: {why}") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
