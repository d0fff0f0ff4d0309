"""Strings and numbers as Go's strconv reads and writes them: in queries, results and messages."""

import math
import re
from decimal import Decimal

from tocsin_exporter.series import Labels

_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
_NAMES = {char: f"\\{name}" for name, char in _ESCAPES.items() if name not in "\"'"}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)


def quote(text: str) -> str:
    """`text` in double quotes, with the escapes of Go's strconv.Quote."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_escaped(char, '"') for char in text) + '"'


def quote_labels(labels: Labels) -> str:
    """A label set as Prometheus's messages show it, the name being a label among others."""
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in labels) + "}"


def quote_char(char: str) -> str:
    """One character in single quotes; the empty string is the end of the input."""
    return f"'{_escaped(char, chr(39)) if char else chr(0xFFFD)}'"


def unquote(literal: str) -> str:
    r"""The text of a string literal that the lexer has accepted.

    Bytes given by `\x` and octal escapes are joined before decoding; those that are no UTF-8
    become U+FFFD, because every label value here is text.
    """
    body = literal[1:-1]
    if literal[0] == "`" or "\\" not in body:
        return body
    return b"".join(_bytes(body)).decode(errors="replace")


def _bytes(body: str) -> list[bytes]:
    pieces, at = [], 0
    for match in _ESCAPE.finditer(body):
        pieces += [body[at : match.start()].encode(), _escape_bytes(match)]
        at = match.end()
    return [*pieces, body[at:].encode()]


def _escape_bytes(match: re.Match[str]) -> bytes:
    byte, short, long, octal, name = match.groups()
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8)])
    return (_ESCAPES[name] if name else chr(int(short or long, 16))).encode()


def _escaped(char: str, mark: str) -> str:
    if char == mark:
        return f"\\{char}"
    if char in _NAMES:
        return _NAMES[char]
    code = ord(char)
    # U+FFFD stands for broken text, which no literal may hold as such.
    if char.isprintable() and code != 0xFFFD:
        return char
    return (
        f"\\x{code:02x}"
        if code < 0x80
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


_INTEGER = re.compile(r"0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0_?[0-7]+(?:_[0-7]+)*|[1-9][0-9_]*|0")
_FLOAT = re.compile(r"(?=\.?[0-9])[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]+)?")
_WORDS = {"inf": math.inf, "nan": math.nan}


def parse_number(text: str) -> float:
    """The value of a literal without sign; `010` is octal, `1_000` is allowed.

    Raises ValueError in Go's words when it is none or too large.
    """
    if (word := _WORDS.get(text.lower())) is not None:
        return word
    # No integer of 64 bits is longer, not even with an underscore between all of its digits.
    if len(text) < 50 and _INTEGER.fullmatch(text) and (value := _integer(text)) < 2**63:
        return float(value)
    if not _FLOAT.fullmatch(text):
        raise ValueError(_go_error(text, "invalid syntax"))
    if math.isinf(number := float(text.replace("_", ""))):
        raise ValueError(_go_error(text, "value out of range"))
    return number


def format_number(value: float) -> str:
    """The shortest decimal that reads back as `value`, never with an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def exponent(value: float) -> str:
    """Go's FormatFloat(v, 'e', -1): the shortest digits, an exponent of at least two."""
    if not math.isfinite(value):
        return format_number(value)
    negative, digits, power = Decimal(repr(value)).normalize().as_tuple()
    rest = "".join(map(str, digits[1:]))
    point = "." if rest else ""
    return f"{'-' * negative}{digits[0]}{point}{rest}e{int(power) + len(rest):+03d}"


def shortest(value: float) -> str:
    """Go's `%v`: the shortest digits, with an exponent from a million on and below 0.0001."""
    near = not math.isfinite(value) or value == 0 or 1e-4 <= abs(value) < 1e6
    return format_number(value) if near else exponent(value)


def _integer(text: str) -> int:
    digits = text.replace("_", "").lower()
    if digits.startswith("0x"):
        return int(digits, 16)
    return int(digits, 8 if digits.startswith("0") else 10)


def _go_error(text: str, what: str) -> str:
    return f"error parsing number: strconv.ParseFloat: parsing {quote(text)}: {what}"
