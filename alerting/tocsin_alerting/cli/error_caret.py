"""An expression with a caret under the place that an error names."""

import re

_PLACE = re.compile(r"\b(\d{1,6}):(\d{1,6}): parse error")
_BEFORE = "  "


def with_caret(message: str, query: str, width: int) -> str:
    """`message`, and below it the line of `query` that it names by `line:column`, with a caret.

    The two lines are at most `width` wide: of a longer one the part around the place is shown.
    The message alone when it names no place in `query`.
    """
    match = _PLACE.search(message)
    lines = query.split("\n")
    if match is None or not 1 <= int(match[1]) <= len(lines):
        return message
    line, offset = lines[int(match[1]) - 1], int(match[2]) - 1
    if not 0 <= offset <= len(line):
        return message
    shown = "".join(char if char.isprintable() else " " for char in line)
    return "\n".join([message, *_shown(shown, offset, max(10, width - len(_BEFORE)))])


def _shown(line: str, offset: int, width: int) -> tuple[str, str]:
    from rich.cells import cell_len

    first, last = max(0, offset - width), min(len(line), offset + width)
    while cell_len(line[first : offset + 1]) > max(1, width * 2 // 3):
        first += 1
    while last > offset + 1 and cell_len(line[first:last]) > width:
        last -= 1
    under = " " * cell_len(line[first:offset])
    return f"{_BEFORE}{line[first:last]}", f"{_BEFORE}{under}^"
