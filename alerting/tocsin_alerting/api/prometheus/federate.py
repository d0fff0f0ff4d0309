"""`/federate`: the newest sample of each series, for a Prometheus that scrapes them from us.

What it takes keeps its own time, and its labels with `honor_labels: true`. Type and help are not
told, as by Prometheus. Stale markers have no text: what ended is missing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.roles import plainly
from tocsin_alerting.api.prometheus.encoding import ResponseBody, format_value, labels_bytes
from tocsin_alerting.api.prometheus.params import Params
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryWork
from tocsin_alerting.api.prometheus.query_route import query_route
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.promql.eval.selectors import NewestSamples
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_exporter.negotiation import negotiate_names
from tocsin_exporter.snapshot import Labels

_NOTHING_ASKED = (
    "no match[] parameter provided; say which series to take,"
    ' as in /federate?match[]={job="node"}&match[]=up'
)
_TOGETHER = 1_000  # series of a piece
_MOST_PAIRS = 10_000  # labels that are remembered as text
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_IN_TEXT = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def routes(context: QueryContext, external_labels: Mapping[str, str]) -> list[Route]:
    """`external_labels` are those of the agent, which say where a series comes from."""

    def handler(params: Params, context: QueryContext) -> QueryWork:
        return _federate(params, context, external_labels)

    return [query_route("/federate", handler, context, "HEAD", refused=plainly)]


def _federate(params: Params, context: QueryContext, external: Mapping[str, str]) -> QueryWork:
    if not params.get_all("match[]"):
        raise ApiError("bad_data", _NOTHING_ASKED)
    form, at_ms = negotiate_names(params.accept), context.now_ms()
    # Whoever scrapes with honor_labels gives a series without an instance no instance of ours.
    added = tuple(sorted(({"instance": ""} | dict(external)).items()))

    def work(budget: Budget) -> ResponseBody:
        newest = context.engine.newest(params.matcher_sets(), at_ms, budget)
        size = partial(labels_bytes, newest.labels)
        return ResponseBody(_pieces(newest, _Lines(form.escaping, added)), size, form.content_type)

    return work


def _pieces(newest: NewestSamples, lines: "_Lines") -> Iterator[bytes]:
    samples = zip(newest.labels, newest.values.tolist(), newest.times.tolist(), strict=True)
    while piece := "".join(lines.of(*sample) for sample in islice(samples, _TOGETHER)):
        yield piece.encode()


@dataclass(slots=True)
class _Lines:
    """Samples as lines of the text format. `added` are labels for series that have none of that
    name."""

    escaping: str
    added: Labels
    _name: str = ""
    _heading: str = ""
    _pairs: dict[tuple[str, str], str] = field(default_factory=dict)  # many series share one

    def of(self, labels: Labels, value: float, at_ms: int) -> str:
        """One sample, below a heading where its metric begins."""
        by_name = dict(labels)
        heading = self._headed(by_name[METRIC_NAME])
        texts = [self._pair(pair) for pair in labels if pair[0] != METRIC_NAME]
        texts += [self._pair(pair) for pair in self.added if pair[0] not in by_name]
        name = self._name
        if name.startswith('"'):
            return f"{heading}{{{','.join((name, *texts))}}} {format_value(value)} {at_ms}\n"
        return f"{heading}{name}{{{','.join(texts)}}} {format_value(value)} {at_ms}\n"

    def _pair(self, pair: tuple[str, str]) -> str:
        text = self._pairs.get(pair)
        if text is None:
            if len(self._pairs) >= _MOST_PAIRS:
                self._pairs.clear()
            text = self._pairs[pair] = f'{self._label(pair[0])}="{_escaped(pair[1])}"'
        return text

    def _headed(self, name: str) -> str:
        if name == self._heading:
            return ""
        self._heading, self._name = name, escaped_name(name, self.escaping)
        if not _NAME.fullmatch(self._name):
            self._name = f'"{_escaped(self._name)}"'
        return f"# TYPE {self._name} untyped\n"

    def _label(self, label: str) -> str:
        if _LABEL.fullmatch(label):
            return label if self.escaping != "dots" else escaped_name(label, "dots")
        written = escaped_name(label, self.escaping)
        return written if _LABEL.fullmatch(written) else f'"{_escaped(written)}"'


def _escaped(text: str) -> str:
    return text.translate(_IN_TEXT)


def escaped_name(name: str, escaping: str) -> str:
    """A name as Prometheus writes it (model.EscapeName) for those who can read no UTF-8 in it."""
    if escaping == "allow-utf-8" or (escaping != "dots" and _NAME.fullmatch(name)):
        return name
    write, prefix = _WRITERS[escaping], "U__" if escaping == "values" else ""
    return prefix + "".join(
        char if _is_plain(char, at) else write(char) for at, char in enumerate(name)
    )


def _is_plain(char: str, at: int) -> bool:
    return char.isascii() and (char.isalpha() or char == ":" or (at > 0 and char.isdigit()))


def _dotted(char: str) -> str:
    return "_dot_" if char == "." else "__"


def _coded(char: str) -> str:
    return "__" if char == "_" else f"_{ord(char):x}_"


_WRITERS: Mapping[str, Callable[[str], str]] = {
    "underscores": lambda char: "_",
    "dots": _dotted,
    "values": _coded,
}
