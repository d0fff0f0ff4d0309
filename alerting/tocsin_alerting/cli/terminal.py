"""What the terminal can show."""

import os
import shutil
import sys
from datetime import UTC

from tocsin_alerting.cli.plot import Style


def width() -> int:
    """Columns; COLUMNS says otherwise, and 80 are taken where there is no terminal."""
    return max(20, shutil.get_terminal_size().columns)


def style(top: int, unit: str | None, utc: bool) -> Style:
    """Braille in colours on a terminal that has both, and is not asked to leave them away."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    dumb = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("NO_COLOR"))
    plain = not sys.stdout.isatty() or dumb or encoding != "utf8"
    height = min(20, max(8, shutil.get_terminal_size().lines - top - 8))
    return Style(width(), height, plain, top, unit, UTC if utc else None)
