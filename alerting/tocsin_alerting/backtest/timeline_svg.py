"""A picture of when each rule would have fired, and of who would have been paged."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from tocsin_alerting.backtest.paging import PagingLog
from tocsin_alerting.backtest.replay import RuleReplay
from tocsin_alerting.backtest.report import LabelledIncident
from tocsin_alerting.rules.rule import AlertingRule

_WIDTH, _LEFT, _ROW, _TOP = 1000, 260, 22, 34
_MOST_TICKS = 9
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
_STEPS = (
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 7, 14, 28, 91, 364, 1092, 3640)),
)
_COLOURS = {"P0": "#b3261e", "P1": "#d9480f", "P2": "#b08800", "P3": "#1971c2", "P4": "#5c677d"}


def timeline_svg(
    replays: Sequence[RuleReplay],
    log: PagingLog,
    within: tuple[int, int],
    real: Sequence[LabelledIncident] = (),
) -> str:
    """An SVG 1.1 document: a row for each rule that fired, a bar for each firing, a dot for each
    page, a band for each incident that was real, and what each is as its title. Times are in UTC.
    """
    rows = [one for one in replays if isinstance(one.rule, AlertingRule) and one.spans]
    height = _TOP + _ROW * max(1, len(rows)) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_bands(real, within, height),
        *_axis(within, height),
    ]
    for number, replay in enumerate(rows):
        parts += _row(replay, log, within, _TOP + _ROW * number)
    if not rows:
        parts.append(f'<text x="10" y="{_TOP + 14}" fill="#333">no rule would have fired</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(at_ms: int, within: tuple[int, int]) -> float:
    share = (at_ms - within[0]) / max(1, within[1] - within[0])
    return round(_LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - 10), 1)


def _axis(within: tuple[int, int], height: int) -> Iterator[str]:
    """At whole hours or days, whichever are few enough for their words to stand apart."""
    length = max(1, within[1] - within[0])
    step = next((one for one in _STEPS if length / one < _MOST_TICKS), length)
    form = "%d %b %H:%M" if step < _DAY else "%d %b" if step < 28 * _DAY else "%d %b %Y"
    first_ms = -(-within[0] // step) * step
    for at_ms in range(first_ms, within[1] + 1, step):
        x = _x(at_ms, within)
        yield f'<line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height}" stroke="#dddddd"/>'
        anchor = "end" if x > _WIDTH - 45 else "middle"
        text = f"{datetime.fromtimestamp(at_ms / 1000, UTC):{form}}"
        yield f'<text x="{x}" y="18" text-anchor="{anchor}" fill="#555">{text}</text>'


def _bands(real: Sequence[LabelledIncident], within: tuple[int, int], height: int) -> Iterator[str]:
    for one in real:
        start, stop = _x(one.start_ms, within), _x(one.end_ms, within)
        title = f"incident {_clock(one.start_ms)} to {_clock(one.end_ms)} {one.alertname}".rstrip()
        yield (
            f'<rect x="{start}" y="{_TOP - 6}" width="{max(1.0, round(stop - start, 1))}"'
            f' height="{height - _TOP + 6}" fill="#e8eef5"><title>{escape(title)}</title></rect>'
        )


def _row(replay: RuleReplay, log: PagingLog, within: tuple[int, int], y: int) -> Iterator[str]:
    severity = dict(replay.rule.labels).get("severity", "")
    name = f"{replay.rule.name} {severity}".rstrip()
    shown = escape(name if len(name) <= 38 else name[:37] + "…")
    yield f'<text x="10" y="{y + 14}" fill="#222">{shown}<title>{escape(name)}</title></text>'
    colour = _COLOURS.get(severity, "#5c677d")
    for span in replay.spans:
        until_ms = span.resolved_ms or within[1]
        start, stop = _x(span.fired_ms, within), _x(until_ms, within)
        labels = ", ".join(f'{key}="{value}"' for key, value in span.labels)
        title = f"{_clock(span.fired_ms)} to {_clock(until_ms)} {{{labels}}}"
        yield (
            f'<rect x="{start}" y="{y + 4}" width="{max(1.0, round(stop - start, 1))}"'
            f' height="12" fill="{colour}" fill-opacity="0.55">'
            f"<title>{escape(title)}</title></rect>"
        )
    for page in log.pages:
        if replay.rule.uid in log.rules.get(page.incident, ()):
            title = f"{_clock(page.at_ms)} {page.severity} page of #{page.incident} ({page.reason})"
            yield (
                f'<circle cx="{_x(page.at_ms, within)}" cy="{y + 10}" r="3" fill="{colour}">'
                f"<title>{escape(title)}</title></circle>"
            )


def _clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
