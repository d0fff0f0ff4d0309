"""The picture of a range: literal text, and that nothing breaks it."""

import math
import unicodedata
from datetime import UTC, timedelta, timezone

import click
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.cli.legend import Line
from tocsin_alerting.cli.plot import Style, plot, points_across
from tocsin_alerting.cli.times import TimeRange
from tocsin_alerting.units import UNITS

BEGAN = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
HOUR = TimeRange(BEGAN, BEGAN + 3600)


SHANGHAI = timezone(timedelta(hours=8))


def line(*values: float, **labels: str) -> Line:
    """A value a minute."""
    points = [(BEGAN + 60 * number, value) for number, value in enumerate(values)]
    return Line(labels, points)


SAWTOOTH = line(*(number % 20 for number in range(61)), gpu="0", job="gpu")
BROKEN_OFF = line(*[5] * 20, *[math.nan] * 20, *[5] * 21, gpu="1", job="gpu")


def drawn(*lines: Line, within: TimeRange = HOUR, style: Style) -> str:
    return "\n".join(map(click.unstyle, plot("sawtooth", lines, within, 60, style)))


PLAIN = """\
sawtooth
20+                   *                   *                   *
  |                 ***                 ***                 ***
  |               **  *               **  *               **  *
  |             **    *             **    *             **    *
10+          ***      *          ***      *          ***      *
  |        **          *       **          *       **          *
  |      **            *     **            *     **            *
  |++++**++++++++++++++*   **              *+++**++++++++++++++*
  |  **                * **                * **                *
 0+**                  **                  **                  *
  +-------+---------+---------+---------+---------+---------+---
        22:20     22:30     22:40     22:50     23:00     23:10
2023-11-14 22:13:20+00:00 to 23:13:20+00:00, step 60s
all {job="gpu"}
  LAST  MIN  MAX    AVG  SERIES
*    0    0   19  9.344  {gpu="0"}
+    5    5    5      5  {gpu="1"}"""
BRAILLE = """\
sawtooth
20┤                  ⢀⡄                   ⣠                   ⣠
  │                ⢀⠔⠁⡇                 ⡠⠊⢸                 ⡠⠊⢸
  │              ⢀⠔⠁  ⡇               ⡠⠊  ⢸               ⡠⠊  ⢸
  │            ⢀⠔⠁    ⢸             ⡠⠊     ⡇            ⡠⠊     ⡇
  │          ⢀⠔⠁      ⢸          ⢀⡠⠊       ⡇          ⡠⠊       ⡇
10┤        ⡠⠒⠁        ⢸        ⡠⠒⠁         ⡇       ⢀⠔⠊         ⡇
  │      ⡠⠊           ⢸      ⡠⠊            ⡇     ⢀⠔⠁           ⡇
  │⠒⠒⠒⠒⡲⠚⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠚⡄   ⡠⠊              ⢳⠒⠒⠒⢒⠖⠓⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⢳
  │  ⡠⠊                ⡇ ⡠⠊                ⢸ ⢀⠔⠁               ⢸
 0┤⡠⠊                  ⡧⠊                  ⢸⠔⠁                 ⢸
  └──────┬──────────┬─────────┬─────────┬─────────┬─────────┬───
       06:20      06:30     06:40     06:50     07:00     07:10
2023-11-15 06:13:20+08:00 to 07:13:20+08:00, step 60s
all {job="gpu"}
   LAST  MIN  MAX    AVG  SERIES
━━    0    0   19  9.344  {gpu="0"}
━━    5    5    5      5  {gpu="1"}"""
NARROW = """\
sawtooth
2B+   *****     *
  |
  |*
  |
0B+          *
  +------+--------------
       22:15
2023-11-14 22:13:20+00:~
* x_bytes{}
  last NaN min -Inf max
  +Inf avg NaN"""


def test_in_ascii() -> None:
    assert drawn(SAWTOOTH, BROKEN_OFF, style=Style(64, 10, zone=UTC)) == PLAIN


def test_in_braille_and_the_local_zone() -> None:
    style = Style(64, 10, plain=False, zone=SHANGHAI)
    assert drawn(BROKEN_OFF, SAWTOOTH, style=style) == BRAILLE


def test_infinities_lie_on_the_edge_and_nothing_leads_there() -> None:
    one = line(1, math.inf, math.inf, -math.inf, 2, math.nan, __name__="x_bytes")
    style = Style(24, 5, zone=UTC)
    assert drawn(one, within=TimeRange(BEGAN, BEGAN + 360), style=style) == NARROW


def test_missing_points_are_a_gap_too() -> None:
    whole = line(*[1] * 61)
    holed = Line({}, [point for at, point in enumerate(whole.points) if not 10 <= at < 50])
    style = Style(63, 5, zone=UTC)
    rows = [drawn(one, style=style).split("\n")[1].partition("+")[2] for one in (whole, holed)]
    assert rows[0] == "*" * 61
    assert rows[1] == "*" * 10 + " " * 40 + "*" * 11


def test_the_highest_are_drawn_and_the_others_counted() -> None:
    flat = [line(height, 0, n=str(height)) for height in range(12)]
    said = drawn(*flat, line(math.nan, n="nan"), style=Style(top=3)).split("\n")
    assert [row.split()[-1] for row in said[-4:-1]] == ['{n="11"}', '{n="10"}', '{n="9"}']
    assert said[-1] == "10 more series; only the 3 highest are plotted (--top)"


def test_the_pen_of_the_legend_is_the_curve_s() -> None:
    inked = "\n".join(plot("x", [SAWTOOTH, BROKEN_OFF], HOUR, 60, Style(plain=False)))
    curves, _, rows = inked.partition("LAST")
    for colour in ("\x1b[32m", "\x1b[33m"):
        assert colour in curves and colour in rows


def test_a_unit_is_read_from_the_name_or_given() -> None:
    half = line(0.5, 0.25, __name__="x_ratio")
    assert "50%" in drawn(half, style=Style())
    assert "500ms" in drawn(half, style=Style(unit="seconds"))


def test_as_many_points_as_find_room() -> None:
    assert points_across(Style(80, plain=True)) == 71
    assert points_across(Style(80, plain=False)) == 142
    assert points_across(Style(5)) == 2


def _columns(text: str) -> int:
    """Of a terminal, by Unicode Standard Annex 11."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


TEXT = st.text('a"\\\n\t\x1b\u65e5\u5fd7\uff01\u00e9{}', max_size=12)
POINTS = st.lists(
    st.tuples(st.floats(BEGAN - 5, BEGAN + 3605), st.floats()), min_size=0, max_size=8
).map(sorted)
LINES = st.lists(st.builds(Line, st.dictionaries(TEXT, TEXT, max_size=3), POINTS), max_size=5)
STYLES = st.builds(
    Style,
    width=st.integers(20, 120),
    height=st.integers(1, 30),
    plain=st.booleans(),
    top=st.integers(1, 6),
    unit=st.sampled_from([None, *UNITS]),
    zone=st.just(SHANGHAI),
)


@given(TEXT, LINES, st.floats(0, 4e9), st.floats(1e-3, 7200), STYLES)
def test_nothing_breaks_it_and_nothing_is_too_wide(
    query: str, lines: list[Line], span: float, step: float, style: Style
) -> None:
    rows = plot(query, lines, TimeRange(BEGAN, BEGAN + span), step, style)
    shown = [click.unstyle(row) for row in rows]
    assert max(map(_columns, shown)) <= style.width
    assert all(row.isprintable() for row in shown)
    assert style.plain is False or all(row == one for row, one in zip(rows, shown, strict=True))
