"""Number literals: Go's syntax in, Go's shortest decimal form out."""

import math
import re
from decimal import Decimal

from tocsin_alerting.promql.parser.quoting import quote

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
