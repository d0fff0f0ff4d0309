"""Dots and strokes."""

import click

from tocsin_alerting.cli.canvas import Canvas, inked


def test_a_stroke_of_braille_dots() -> None:
    canvas = Canvas(3, 2, plain=False)
    assert (canvas.across, canvas.down) == (6, 8)
    canvas.line((0, 7), (5, 0), 0)
    assert [click.unstyle(row) for row in canvas.lines()] == [" ⢀⠎", "⡰⠁"]


def test_every_dot_of_a_character() -> None:
    canvas = Canvas(1, 1, plain=False)
    for x in range(2):
        canvas.line((x, 0), (x, 3), 0)
    assert canvas.lines() == [inked("⣿", 0)]


def test_a_plain_stroke_and_what_covers_it() -> None:
    canvas = Canvas(5, 3, plain=True)
    assert (canvas.across, canvas.down) == (5, 3)
    canvas.line((0, 0), (4, 2), 0)
    canvas.line((2, 1), (2, 1), 1)
    assert canvas.lines() == ["**", "  +", "   **"]


def test_a_run_of_one_pen_has_one_colour() -> None:
    canvas = Canvas(4, 1, plain=False)
    canvas.line((0, 0), (3, 0), 0)
    canvas.line((6, 0), (6, 0), 9)
    assert canvas.lines() == [f"{inked('⠉⠉', 0)} {inked('⠁', 9)}"]
    assert inked("x", 0) != inked("x", 1)
    assert click.unstyle(inked("x", 1000)) == "x"
