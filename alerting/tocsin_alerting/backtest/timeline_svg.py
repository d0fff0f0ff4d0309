"""A picture of when each rule would have fired, and of who would have been paged."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from tocsin_alerting.backtest.paging import PagingLog
from tocsin_alerting.backtest.replay import RuleReplay
from tocsin_alerting.rules.rule import AlertingRule

_WIDTH, _LEFT, _ROW, _TOP = 1000, 260, 22, 34
_TICKS = 8
_COLOURS = {"P0": "#b3261e", "P1": "#d9480f", "P2": "#b08800", "P3": "#1971c2", "P4": "#5c677d"}


def timeline_svg(replays: Sequence[RuleReplay], log: PagingLog, within: tuple[int, int]) -> str:
    """An SVG 1.1 document: a row for each rule that fired, a bar for each firing, a dot for each
    page, and what each is as its title. Times are in UTC."""
    rows = [one for one in replays if isinstance(one.rule, AlertingRule) and one.spans]
    height = _TOP + _ROW * max(1, len(rows)) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
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
    for tick in range(_TICKS + 1):
        at_ms = within[0] + (within[1] - within[0]) * tick // _TICKS
        x = _x(at_ms, within)
        yield f'<line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height}" stroke="#dddddd"/>'
        anchor = "end" if tick == _TICKS else "middle" if tick else "start"
        text = f"{datetime.fromtimestamp(at_ms / 1000, UTC):%d %b %H:%M}"
        yield f'<text x="{x}" y="18" text-anchor="{anchor}" fill="#555">{text}</text>'


def _row(replay: RuleReplay, log: PagingLog, within: tuple[int, int], y: int) -> Iterator[str]:
    name = escape(replay.rule.name)
    shown = name if len(name) <= 38 else name[:37] + "…"
    yield f'<text x="10" y="{y + 14}" fill="#222">{shown}<title>{name}</title></text>'
    severity = dict(replay.rule.labels).get("severity", "")
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
