"""What a process runs: its executable, and for an interpreter the script.

A group of processes is known by these and not by a search through the whole command line: an
editor, a `grep` or a script that has "vllm serve" in an argument is not vLLM.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PYTHON = re.compile(r"(python|pypy)[0-9.]*[a-z]?")
_SHELL = re.compile(r"(ba|da|k|z|)sh|perl|ruby|node")
_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")  # options of python that take the next word
_MODULE = re.compile(r"-[bBdEiIOPqRsSuvx]*m(.*)", re.DOTALL)
_CODE = re.compile(r"-[a-zA-Z]*c.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Program:
    """`comm` is the process's name, which the kernel cuts after 15 bytes; `arguments` are argv,
    empty for a kernel thread and a zombie."""

    comm: str
    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        """The process's name, a blank and its command line."""
        return f"{self.comm} {' '.join(self.arguments)}"

    @property
    def started(self) -> tuple[str, ...]:
        """What was started, then its arguments: `vllm serve m`, or `-m module ...`.

        The first is a path or a name; for an interpreter it is the script's, or `-m`. Nothing for
        code on the command line.
        """
        if not self.arguments:
            return (self.comm,)
        executable, *rest = self.arguments
        if _PYTHON.fullmatch(_base(executable)):
            return _script(rest)
        if _SHELL.fullmatch(_base(executable)):
            return () if any(map(_CODE.fullmatch, rest[:1])) else tuple(_without_options(rest))
        return self.arguments


Matcher = Callable[[Program], bool]


def by_comm(name: str) -> Matcher:
    return lambda program: program.comm == name


def by_executable(name: str) -> Matcher:
    """The executable or the script has this path, or this name in any directory."""

    def matches(program: Program) -> bool:
        names = (*program.arguments[:1], *program.started[:1])
        return name in names or name in map(_base, names)

    return matches


def by_line(pattern: str) -> Matcher:
    """The pattern is somewhere in the process's name, a blank and its command line."""
    compiled = re.compile(pattern)
    return lambda program: compiled.search(program.line) is not None


def matcher(comm: str | None = None, exe: str | None = None, cmdline: str | None = None) -> Matcher:
    """Of a configured group, which gives one of the three."""
    if comm is not None:
        return by_comm(comm)
    return by_executable(exe) if exe is not None else by_line(cmdline or "")


def by_start(pattern: str) -> Matcher:
    """The pattern fits what was started, from its beginning; a path counts by its last part."""
    compiled = re.compile(pattern)

    def matches(program: Program) -> bool:
        first, *rest = program.started or ("",)
        return compiled.match(" ".join((_base(first), *rest))) is not None

    return matches


def parse(stat: str, cmdline: str) -> Program:
    """From /proc/<pid>/stat and cmdline."""
    name = stat.partition("(")[2].rpartition(")")[0]
    arguments = cmdline.rstrip("\0").split("\0") if cmdline.strip("\0") else ()
    return Program(name, tuple(arguments))


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _script(rest: Sequence[str]) -> tuple[str, ...]:
    """Of python's arguments, from the script or `-m module` on."""
    at = 0
    while at < len(rest) and rest[at].startswith("-"):
        module = _MODULE.fullmatch(rest[at])
        if module:
            name = (module[1],) if module[1] else ()
            return ("-m", *name, *rest[at + 1 :])
        if _CODE.fullmatch(rest[at]) and not rest[at].startswith(("-X", "-W", "--")):
            return ()
        at += 2 if rest[at] in _WITH_VALUE else 1
    return tuple(rest[at:])


def _without_options(rest: Sequence[str]) -> Sequence[str]:
    at = next((n for n, word in enumerate(rest) if not word.startswith("-")), len(rest))
    return rest[at:]
