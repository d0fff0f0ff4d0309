"""Where a number, duration or string literal ends, and what is wrong with it."""

import re

from tocsin_alerting.promql.parser.quoting import quote
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.parser.tokens import TokenKind

_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?![0-9A-Za-z_.])")
_PLAIN_DURATION = re.compile(r"[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdw]))*(?![0-9A-Za-z_.])")
_NO_TEXT = r"\ufffd\ud800-\udfff"
_PLAIN_STRING = re.compile(
    rf"""(?x) "[^"\\\n{_NO_TEXT}]*(?:\\[abfnrtv\\"][^"\\\n{_NO_TEXT}]*)*"
            | '[^'\\\n{_NO_TEXT}]*(?:\\[abfnrtv\\'][^'\\\n{_NO_TEXT}]*)*'
            | `[^`{_NO_TEXT}]*` """
)
_NUMBER_2 = re.compile(
    r"(?:0[xX][0-9a-fA-F]*(?:\.[0-9a-fA-F]*)?|[0-9]*(?:\.[0-9]*)?)(?:[eE][+-]?[0-9]*)?"
)
_NUMBER_3 = re.compile(
    r"0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
    r"|(?:[0-9]+(?:_[0-9]+)*)?(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?"
    r"(?:(?<=[0-9.])[eE][+-]?[0-9]+(?:_[0-9]+)*)?"
)
_UNITS = re.compile(r"(?:[smhdwy]s?(?:[0-9]+[smhdw]s?)*)?")
_DIGITS = re.compile(r"[0-9]*")
_BROKEN_TAIL = re.compile(r"[._eE]?[-+]?")
_ALNUM = re.compile(r"[0-9A-Za-z_]")
_STRING_RUN = re.compile(rf"[^\\\n\"'`{_NO_TEXT}]*")
_ESCAPE_DIGITS = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}


class LexicalError(ValueError):
    """Text that is no token; `at` is where the token begins."""

    def __init__(self, message: str, at: int) -> None:
        self.at = at
        super().__init__(message)


def scan_number(
    query: str, at: int, semantics: Semantics, complaint: str = "bad number or duration syntax"
) -> tuple[TokenKind, int]:
    """Kind and end of the number or duration at `at`; raises LexicalError."""
    if match := _PLAIN_DURATION.match(query, at):
        return TokenKind.DURATION, match.end()
    if match := _PLAIN_NUMBER.match(query, at):
        return TokenKind.NUMBER, match.end()
    number = _match_end(_NUMBER_2 if semantics == 2 else _NUMBER_3, query, at)
    after = query[number : number + 1]
    if not _ALNUM.match(after) and not (after == "." and semantics == 3):
        return TokenKind.NUMBER, number
    end = _match_end(_UNITS, query, number)
    if end > number and not _ALNUM.match(query, end):
        return TokenKind.DURATION, end
    if end == number and semantics == 3:
        end = _match_end(_BROKEN_TAIL, query, number)
    else:
        end = _after_unit(query, number, end)
    raise LexicalError(f"{complaint}: {quote(query[at:end])}", at)


def _after_unit(query: str, number: int, end: int) -> int:
    """How far Prometheus reads before a duration turns out wrong: one character or all digits."""
    return end if end == number else max(end + 1, _match_end(_DIGITS, query, end))


def scan_string(query: str, at: int) -> int:
    """The end of the string literal at `at`; raises LexicalError."""
    if match := _PLAIN_STRING.match(query, at):
        return match.end()
    mark, position = query[at], at + 1
    while True:
        position = _match_end(_STRING_RUN, query, position)
        char = query[position : position + 1]
        if char == mark:
            return position + 1
        if not char or char == "\n" and mark != "`":
            what = "raw" if mark == "`" else "quoted"
            raise LexicalError(f"unterminated {what} string", at)
        if char == "\ufffd" or "\ud800" <= char <= "\udfff":
            raise LexicalError("invalid UTF-8 rune", at)
        position = _after_char(query, position, mark, at)


def _after_char(query: str, position: int, mark: str, start: int) -> int:
    if query[position] != "\\" or mark == "`":
        return position + 1
    name = query[position + 1 : position + 2]
    if name and name in "abfnrtv\\" + mark:
        return position + 2
    if name and name in "01234567":
        return _after_digits(query, position + 1, 3, 8, start)
    if name in _ESCAPE_DIGITS:
        return _after_digits(query, position + 2, *_ESCAPE_DIGITS[name], start)
    if not name:
        raise LexicalError("escape sequence not terminated", start)
    raise LexicalError(f"unknown escape sequence {_code_point(name)}", start)


def _after_digits(query: str, position: int, count: int, base: int, start: int) -> int:
    value = 0
    for char in query[position : position + count].ljust(count, "\0"):
        digit = "0123456789abcdef".find(char.lower()) if char.isascii() else -1
        if not 0 <= digit < base:
            if position >= len(query):
                raise LexicalError("escape sequence not terminated", start)
            raise LexicalError(f"illegal character {_code_point(char)} in escape sequence", start)
        value, position = value * base + digit, position + 1
    if value > (0x10FFFF if count > 3 else 255) or 0xD800 <= value < 0xE000:
        raise LexicalError("escape sequence is an invalid Unicode code point", start)
    return position


def _code_point(char: str) -> str:
    """Go's `%#U`: `U+0041 'A'`, the character itself only if it can be printed."""
    code = f"U+{ord(char):04X}"
    return f"{code} '{char}'" if char.isprintable() else code


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
