"""Which functions of the product run, in the order in which a reader would meet them."""

import inspect
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(
    str(ROOT / name)
    for name in (
        "exporter/tocsin_exporter/",
        "alerting/tocsin_alerting/",
        "inference/tocsin_inference/",
    )
)


@dataclass(frozen=True)
class Function:
    """`file` below the checkout; `line` is the first one, of `lines`."""

    file: str
    name: str
    line: int
    lines: int


@dataclass(frozen=True)
class Walk:
    """Functions in the order of their first entry, each once."""

    functions: Sequence[Function]

    @property
    def files(self) -> list[str]:
        """In the order in which they are opened."""
        return list(dict.fromkeys(function.file for function in self.functions))

    @property
    def lines(self) -> int:
        """Of the functions; one that stands in another is counted with that one."""
        numbered = {
            (function.file, function.line + offset)
            for function in self.functions
            for offset in range(function.lines)
        }
        return len(numbered)

    @property
    def changes(self) -> int:
        """How often the next function lies in another file; the first file is the first change."""
        files = [function.file for function in self.functions]
        return sum(file != last for last, file in zip(["", *files], files, strict=False))

    @property
    def back(self) -> int:
        """The changes to a file that is open already."""
        return self.changes - len(self.files)

    def __add__(self, other: "Walk") -> "Walk":
        return Walk(list(dict.fromkeys((*self.functions, *other.functions))))


class Tracer:
    """A profiler of this thread and of all that begin while it is installed, but for those called
    `without`: what is entered from `begin` to `end` is noted, whichever thread enters it."""

    def __init__(self, without: Collection[str] = ()) -> None:
        self._without = without
        self._codes: dict[CodeType, None] | None = None

    @contextmanager
    def installed(self) -> Iterator["Tracer"]:
        threading.setprofile(self._begin_thread)
        sys.setprofile(self._note)
        try:
            yield self
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def begin(self) -> None:
        self._codes = {}

    def end(self) -> Walk:
        """What was entered since `begin`."""
        codes, self._codes = self._codes or {}, None
        return Walk([_function(code) for code in codes])

    def _begin_thread(self, frame: FrameType, event: str, argument: object) -> None:
        own = threading.current_thread().name not in self._without
        sys.setprofile(self._note if own else None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        codes, code = self._codes, frame.f_code
        if codes is not None and event == "call" and code not in codes and _is_function(code):
            codes[code] = None


def _is_function(code: CodeType) -> bool:
    """Of the product, with a name: no body of a module or class, no template, and no lambda or
    comprehension, which is read where it stands."""
    return (
        code.co_filename.startswith(PACKAGES)
        and code.co_filename.endswith(".py")
        and bool(code.co_flags & inspect.CO_OPTIMIZED)
        and not code.co_name.startswith("<")
    )


def _function(code: CodeType) -> Function:
    file = str(Path(code.co_filename).relative_to(ROOT))
    numbers = [number for *_, number in code.co_lines() if number]
    first = code.co_firstlineno
    return Function(file, code.co_qualname, first, max(numbers, default=first) - first + 1)
