"""How bad a line says it is."""

import re
from collections.abc import Callable

import re2

LEVELS = ("debug", "info", "warning", "error", "critical", "unknown")
UNKNOWN = "unknown"
_LOOKED_AT = 200  # bytes: a level stands at the beginning of a line
_WORDS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "err": "error",
    "error": "error",
    "crit": "critical",
    "critical": "critical",
    "fatal": "critical",
    "alert": "critical",
    "emerg": "critical",
    "panic": "critical",
}
_LEVEL_OF = {
    form.encode(): level
    for word, level in _WORDS.items()
    for form in (word, word.upper(), word.capitalize())
}
# Capitals anywhere at the beginning; small letters only as a level is written (level=, "level":,
# [error], `error:`), because they are words of sentences too.
_UPPER = "|".join(word.upper() for word in _WORDS)
_ANY = "|".join(f"{word}|{word.upper()}|{word.capitalize()}" for word in _WORDS)
_LEVEL = re.compile(
    rf'(?:\b(?:level|lvl|severity|levelname)"?\s?[=:]\s?"?|\[|^)({_ANY})(?=["\]\s,:]|$)'
    rf"|\b({_UPPER})\b|^([IWEF])\d{{4}} ".encode()
)
_GLOG = {b"I": "info", b"W": "warning", b"E": "error", b"F": "critical"}

LevelOf = Callable[[bytes], str]


def level_of(line: bytes) -> str:
    match = _LEVEL.search(line, 0, _LOOKED_AT)
    if match is None:
        return UNKNOWN
    if match[3]:
        return _GLOG[match[3]]
    return _LEVEL_OF[match[1] or match[2]]


def own_levels(regex: str) -> LevelOf:
    """By an expression whose group `level` is a word like `error`. Raises ValueError."""
    pattern = compiled(regex)
    if "level" not in pattern.groupindex:
        raise ValueError("has no group (?P<level>...)")

    def of(line: bytes) -> str:
        match = pattern.search(line)
        word = match["level"] if match else None
        return _LEVEL_OF.get(bytes(word or b"").strip(), UNKNOWN)

    return of


def compiled(regex: str) -> "re2._Regexp":
    """In RE2's syntax, over bytes that may not be UTF-8. Raises ValueError."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"not a regular expression of RE2: {words}") from None
