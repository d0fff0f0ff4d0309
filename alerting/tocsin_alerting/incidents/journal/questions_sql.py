"""Questions to the journal as SQL, in what PostgreSQL reads as well."""

from collections.abc import Collection
from typing import Any

from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.questions import EntryQuery, IncidentFilter

Where = tuple[str, tuple[Any, ...]]
"""What follows WHERE (or begins with it), and its values."""


def incidents_where(
    states: Collection[IncidentState], below: int, wanted: IncidentFilter, limit: int
) -> Where:
    """The newest first. What is not in a column (labels, texts, people) is left to the reader."""
    terms = [f"state IN ({_marks(states)})", "id < ?"]
    values: list[Any] = [*(state.value for state in states), below]
    if wanted.severities:
        terms.append(f"severity IN ({_marks(wanted.severities)})")
        values += (severity.value for severity in wanted.severities)
    if wanted.only is not None:
        terms.append(f"id IN ({_marks(wanted.only)})")
        values += wanted.only
    if wanted.until_ms is not None:
        terms.append("opened_at_ms <= ?")
        values.append(wanted.until_ms)
    if wanted.since_ms is not None:
        terms.append("(resolved_at_ms IS NULL OR resolved_at_ms >= ?)")
        values.append(wanted.since_ms)
    return f"{' AND '.join(terms)} ORDER BY id DESC LIMIT ?", (*values, limit)


def entries_where(query: EntryQuery) -> Where:
    """In the order of the index that has the times, so that a page costs what it holds."""
    column = "seq" if query.by_number else "(ts_ms, seq)"
    terms: list[str] = []
    values: list[Any] = []
    for sign, place in ((">", query.after), ("<", query.before)):
        if place is not None:
            terms.append(f"{column} {sign} {'?' if query.by_number else '(?, ?)'}")
            values += place[1:] if query.by_number else place
    for sign, at_ms in ((">=", query.since_ms), ("<=", query.until_ms)):
        if at_ms is not None:
            terms.append(f"ts_ms {sign} ?")
            values.append(at_ms)
    if query.actor:
        terms += ("actor = ?", "actor <> ''")  # which the index is for
        values.append(query.actor)
    for name, several in (("incident", query.incidents), ("event", query.events or None)):
        if several is not None:
            terms.append(f"{name} IN ({_marks(several)})")
            values += several
    direction = "DESC" if query.newest else "ASC"
    columns = ("seq",) if query.by_number else ("ts_ms", "seq")
    order = ", ".join(f"{name} {direction}" for name in columns)
    return f"WHERE {' AND '.join(terms) or '1 = 1'} ORDER BY {order} LIMIT ?", (
        *values,
        query.limit,
    )


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" for _ in values)
