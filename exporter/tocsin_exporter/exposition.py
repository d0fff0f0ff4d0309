"""Snapshots to a metrics page: text 0.0.4 or OpenMetrics 1.0.

Labels once, numbers always: what does not change while the layouts stay (headings, names, labels,
the order of the lines) is made once and remembered for a tuple of layouts, so that a page is one
join over numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tocsin_exporter.negotiation import Format
from tocsin_exporter.slices import Work, at_once, parts
from tocsin_exporter.snapshot import (
    Exemplar,
    Family,
    Labels,
    Layout,
    LayoutMemo,
    Rows,
    Series,
    Snapshot,
    Values,
)

_A_SLICE = 2_000  # series
_MOST_PLANS = 16
_MOST_TEXTS = 20_000  # lines of a page whose numbers are kept as they were written
_EXEMPLAR_RUNES = 128  # OpenMetrics: names and values of an exemplar's labels together
_BOUNDS = {"histogram": "le", "summary": "quantile"}


@dataclass(frozen=True, slots=True)
class Page:
    """`duplicates` counts the series refused because their name and labels were there already."""

    body: bytes
    series: int
    duplicates: int


@dataclass(slots=True)
class _LastPage:
    """The numbers of its lines, and how they were written; none of a large page."""

    numbers: Values = field(default_factory=lambda: np.empty(0))
    texts: list[str] = field(default_factory=list)

    def changed(self, numbers: Values) -> Rows:
        """The lines that say another number now, bit by bit: 0 and -0 are written differently."""
        if len(numbers) != len(self.numbers):
            return np.arange(len(numbers))
        return np.flatnonzero(numbers.view(np.int64) != self.numbers.view(np.int64))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Line n of the page is `before[n]`, then the number of row `rows[n]`.

    `before` ends with the name and labels, and begins with what closes the line above and with
    the headings of a family that starts here. Rows count through all the layouts.
    """

    before: tuple[str, ...]
    rows: Rows
    duplicates: int
    last: _LastPage = field(default_factory=_LastPage)


def render(snapshots: Sequence[Snapshot], form: Format) -> Page:
    """The page of these snapshots; families of several are merged, and come in the first order."""
    return at_once(rendered(snapshots, form))


def rendered(snapshots: Sequence[Snapshot], form: Format) -> Work[Page]:
    """The same in slices: an engine may have tens of thousands of series."""
    plan = yield from _remembered(tuple(snapshot.layout for snapshot in snapshots), form)
    texts = yield from _texts(plan, [snapshot.values for snapshot in snapshots])
    if form == "openmetrics":
        _append_exemplars(texts, plan, snapshots)
    lines = [""] * (2 * len(texts))
    lines[::2], lines[1::2] = plan.before, texts
    end = ("\n" if lines else "") + ("# EOF\n" if form == "openmetrics" else "")
    lines.append(end)
    return Page("".join(lines).encode(), len(texts), plan.duplicates)


def _texts(plan: _Plan, values: Sequence[Values]) -> Work[list[str]]:
    """The number of each line. Most are what they were on the last page of these layouts."""
    numbers = np.concatenate(values)[plan.rows] if values else np.empty(0)
    texts, changed = plan.last.texts.copy(), plan.last.changed(numbers)
    if len(texts) != len(numbers):
        texts = [""] * len(numbers)
    for start in range(0, len(changed), _A_SLICE):
        if start:
            yield
        part = changed[start : start + _A_SLICE]
        for line, number in zip(part.tolist(), numbers[part].tolist(), strict=True):
            texts[line] = number_text(number)
    if len(texts) <= _MOST_TEXTS:
        plan.last.numbers, plan.last.texts = numbers, texts.copy()
    return texts


def number_text(value: float) -> str:
    """The shortest text that reads back as the same number; integers without `.0`.

    >>> [number_text(v) for v in (3.0, 0.1, 1e22, float("-inf"))]
    ['3', '0.1', '1e+22', '-Inf']
    """
    text = repr(value)
    if text[-2:] == ".0":
        return text[:-2]
    return _SPECIAL.get(text, text)


_SPECIAL = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


def _remembered(layouts: tuple[Layout, ...], form: Format) -> Work[_Plan]:
    """Layouts compare by identity; formats and filters make a few tuples of them."""
    plan = _plans.get((layouts, form))
    if plan is None:
        plan = yield from _plan(layouts, form)
        _plans.keep((layouts, form), plan, sum(len(layout.series) for layout in layouts))
    return plan


_plans: LayoutMemo[tuple[tuple[Layout, ...], Format], _Plan] = LayoutMemo(_MOST_PLANS)


def _plan(layouts: tuple[Layout, ...], form: Format) -> Work[_Plan]:
    families: dict[str, Family] = {}
    lines: dict[str, dict[tuple[str, Labels], int]] = {}
    rows = duplicates = 0
    for layout in layouts:
        for part in parts(layout.series, _A_SLICE):
            if rows:
                yield
            for row, series in enumerate(part, start=rows):
                family = families.setdefault(series.family.name, series.family)
                of_family = lines.setdefault(family.name, {})
                duplicates += (series.name, series.labels) in of_family
                of_family.setdefault((series.name, series.labels), row)
            rows += len(part)
    before: list[str] = []
    for name, of_family in lines.items():
        opening = "\n" + _heading(families[name], form, families)
        for chunk in parts(list(of_family), _A_SLICE):
            for sample, labels in chunk:
                before.append(f"{opening}{sample}{_labels_text(labels, families[name])} ")
                opening = "\n"
            if len(chunk) == _A_SLICE:
                yield
    if before:
        before[0] = before[0].removeprefix("\n")
    order = [row for of_family in lines.values() for row in of_family.values()]
    return _Plan(tuple(before), np.array(order, np.intp), duplicates)


def _heading(family: Family, form: Format, families: Mapping[str, Family]) -> str:
    if form == "text":
        help = escape_help(family.help)
        return f"# HELP {family.name} {help}\n# TYPE {family.name} {family.type}\n"
    name, kind = _open_metrics_type(family, families)
    lines = [f"# HELP {name} {escape_value(family.help)}", f"# TYPE {name} {kind}"]
    if family.unit and name.endswith("_" + family.unit):
        lines.append(f"# UNIT {name} {family.unit}")
    return "\n".join(lines) + "\n"


def _open_metrics_type(family: Family, families: Mapping[str, Family]) -> tuple[str, str]:
    """A counter is called without its `_total`; one that has none (DCGM's) is of unknown type.

    So is one whose shorter name is another family's already.
    """
    if family.type == "untyped":
        return family.name, "unknown"
    if family.type != "counter":
        return family.name, family.type
    short = family.name.removesuffix("_total")
    if short == family.name or short in families:
        return family.name, "unknown"
    return short, "counter"


def _labels_text(labels: Labels, family: Family) -> str:
    if not labels:
        return ""
    bound = _BOUNDS.get(family.type)
    pairs = (
        f'{name}="{_bound_text(value) if name == bound else escape_value(value)}"'
        for name, value in labels
    )
    return "{" + ",".join(pairs) + "}"


def _bound_text(value: str) -> str:
    """`1` and `1.0` are one bucket to Prometheus 3: write what it would make of it."""
    try:
        text = repr(float(value))
    except ValueError:  # an engine's page may say anything
        return escape_value(value)
    return _SPECIAL.get(text, text)


def escape_value(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def escape_help(text: str) -> str:
    """In text 0.0.4 a quotation mark in a help text stands for itself."""
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _append_exemplars(texts: list[str], plan: _Plan, snapshots: Sequence[Snapshot]) -> None:
    shown: dict[int, str] = {}
    first = 0
    for snapshot in snapshots:
        for row, exemplar in snapshot.exemplars.items():
            if _may_have_exemplar(snapshot.series[row], exemplar):
                shown[first + row] = _exemplar_text(exemplar)
        first += len(snapshot.series)
    if shown:
        for line, row in enumerate(plan.rows.tolist()):
            texts[line] += shown.get(row, "")


def _may_have_exemplar(series: Series, exemplar: Exemplar) -> bool:
    runes = sum(len(name) + len(value) for name, value in exemplar.labels)
    bucket = series.family.type == "histogram" and series.name.endswith("_bucket")
    counter = series.family.type == "counter" and series.name.endswith("_total")
    return runes <= _EXEMPLAR_RUNES and (bucket or counter)


def _exemplar_text(exemplar: Exemplar) -> str:
    pairs = ",".join(f'{name}="{escape_value(value)}"' for name, value in exemplar.labels)
    return f" # {{{pairs}}} {number_text(exemplar.value)} {number_text(exemplar.at_ms / 1000)}"
