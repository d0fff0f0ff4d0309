"""Quoted text as Go writes and reads it, for PromQL's strings and for error messages."""

import re

from tocsin_exporter.snapshot import Labels

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
