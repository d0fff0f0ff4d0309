"""A program that writes a log and rotates it, as logrotate or a program itself does:
`python log_writer.py PATH LINES LINES_A_SECOND LINES_A_FILE rename|copytruncate KEEP`. Each line
has 100 bytes with its end, and its number."""

import os
import shutil
import sys
import time
from pathlib import Path

SLICES = 50  # a second


def line(number: int) -> bytes:
    level = b"ERROR" if number % 100 == 0 else b"INFO"
    text = b"2026-11-30 10:00:00 %s [engine.py:72] line %d of a rotated log" % (level, number)
    return text.ljust(99, b".") + b"\n"


def rotate(path: Path, how: str, keep: int) -> None:
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    first = path.with_name(f"{path.name}.1")
    if how == "rename":
        path.replace(first)
    else:
        shutil.copyfile(path, first)
        os.truncate(path, 0)


def write(path: Path, lines: int, rate: float, lines_a_file: int, how: str, keep: int) -> None:
    """At `rate` lines a second, 0 for as fast as it goes."""
    file = open(path, "ab", buffering=0)
    began, size = time.monotonic(), max(1, int(rate) // SLICES) if rate else 1000
    number = 0
    while number < lines:
        until = min(lines, number + size, (number // lines_a_file + 1) * lines_a_file)
        file.write(b"".join(map(line, range(number, until))))
        number = until
        if number % lines_a_file == 0 and number < lines:
            rotate(path, how, keep)
            if how == "rename":
                file.close()
                file = open(path, "ab", buffering=0)
        if rate:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
    file.close()


if __name__ == "__main__":
    path, lines, rate, lines_a_file, how, keep = sys.argv[1:]
    write(Path(path), int(lines), float(rate), int(lines_a_file), how, int(keep))
