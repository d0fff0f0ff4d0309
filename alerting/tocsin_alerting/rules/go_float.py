"""Go's strconv.FormatFloat: the digits of a float64 in its forms."""

import math

_MAX_DIGITS = 1100  # a float64 has no more, but zeros


def format_float(value: float, form: str, precision: int | None = None) -> str:
    """`form` is b, e, E, f, g, G, x or X; without a precision as many digits as tell the value."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if form == "b":
        return _binary(value)
    if form in "xX":
        text = _hexadecimal(value, precision)
        return text.upper() if form == "X" else text
    if form in "gG" and precision is None:
        return _shortest(value, "e" if form == "g" else "E")
    if form in "gG":
        precision = min(precision or 0, _MAX_DIGITS)
    return f"{value:.{precision}{form}}"


def _shortest(value: float, mark: str) -> str:
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, power = f"{abs(value)!r}".partition("e")
    whole, _, part = mantissa.partition(".")
    part = "" if part == "0" else part
    digits = (whole + part).lstrip("0")
    point = len(whole) + int(power or 0) - (len(whole + part) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    exponent = point - 1
    if -4 <= exponent < 6:
        return sign + _plain(digits, point)
    tail = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{tail}{mark}{exponent:+03d}"


def _plain(digits: str, point: int) -> str:
    """`digits` with the decimal point before the place `point`."""
    if point <= 0:
        return "0." + "0" * -point + digits
    whole, part = digits[:point].ljust(point, "0"), digits[point:]
    return f"{whole}.{part}" if part else whole


def _binary(value: float) -> str:
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, exponent = math.frexp(abs(value))
    power = max(exponent - 53, -1074) if value else -1074
    return f"{sign}{int(math.ldexp(mantissa, exponent - power))}p{power:+d}"


def _hexadecimal(value: float, precision: int | None) -> str:
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    fraction, exponent = math.frexp(abs(value))
    mantissa = int(math.ldexp(fraction, 53))
    exponent = exponent - 1 if mantissa else 0
    if precision is not None and precision < 13:
        mantissa, exponent = _rounded(mantissa, exponent, 4 * (13 - precision))
    digits = f"{mantissa & ((1 << 52) - 1):013x}"
    part = digits.rstrip("0") if precision is None else digits[:precision].ljust(precision, "0")
    lead = mantissa >> 52
    return f"{sign}0x{lead}{'.' if part else ''}{part}p{exponent:+03d}"


def _rounded(mantissa: int, exponent: int, bits: int) -> tuple[int, int]:
    """Without the last `bits` bits, half to even."""
    kept, lost = mantissa >> bits, mantissa & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    kept += lost > half or (lost == half and kept & 1)
    mantissa = kept << bits
    return (mantissa >> 1, exponent + 1) if mantissa >> 53 else (mantissa, exponent)
