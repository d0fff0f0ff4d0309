"""Go's fmt.Sprintf for what a template can hold: texts, numbers, truth, nil, and maps of those.

Source: fmt/print.go and fmt/format.go of Go. `promtool test rules` of 2.42 says the same.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tocsin_alerting.rules.go_float import format_float
from tocsin_alerting.rules.template_data import Stringer
from tocsin_alerting.strconv import quote, quote_char

_REPLACED = "\ufffd"  # what is no character; Go's quotes leave it as it is
_WIDEST = 1_000_000  # fmt's tooLarge
_BASES = {"d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}


class NotPlain(Exception):
    """A value of a kind that is not printed here."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Flags, width and precision of a directive; `go` is the # of %#v, `sharp` that of others."""

    sharp: bool = False
    zero: bool = False
    plus: bool = False
    minus: bool = False
    space: bool = False
    go: bool = False
    width: int | None = None
    precision: int | None = None

    def pad(self, text: str) -> str:
        missing = (self.width or 0) - len(text)
        if missing <= 0:
            return text
        if self.minus:
            return text + " " * missing
        return ("0" if self.zero else " ") * missing + text

    def pad_blank(self, text: str) -> str:
        return (replace(self, zero=False) if self.zero else self).pad(text)

    def cut(self, text: str) -> str:
        return text if self.precision is None else text[: self.precision]


_NO_FLAGS = _Form()


def sprintf(text: str, values: Sequence[object], most: int) -> str:
    """Raises NotPlain, and ValueError for a text of more than `most` characters."""
    pieces, length = [], 0
    for piece in _Reader(text, values, most).pieces():
        pieces.append(piece)
        length += len(piece)
        if length > most:
            raise ValueError(f"the text has more than {most:,} characters")
    return "".join(pieces)


class _Reader:
    """Goes through a format; `_at` is the next character and `_next` the next value."""

    def __init__(self, text: str, values: Sequence[object], most: int) -> None:
        self._text, self._values, self._most = text, values, most
        self._at = self._next = 0
        self._indexed = False  # some directive says which value it takes
        self._good = True  # this one's index is that of a value

    def pieces(self) -> Iterator[str]:
        while self._at < len(self._text):
            percent = self._text.find("%", self._at)
            if percent < 0:
                yield self._text[self._at :]
                break
            yield self._text[self._at : percent]
            self._at = percent + 1
            yield from self._directive()
        rest = self._values[self._next :]
        if rest and not self._indexed:
            yield f"%!(EXTRA {', '.join(map(_extra, rest))})"

    def _directive(self) -> Iterator[str]:
        self._good = True
        flags = self._flags()
        after = self._index()
        precision: int | None = None
        if self._char() == "*":
            width, after = self._star(), False
            if width is None:
                yield "%!(BADWIDTH)"
            elif width < 0:
                flags, width = flags + "-", -width
        else:
            width = self._number()
            self._good &= not (after and width is not None)
        if self._char() == "." and self._at + 1 < len(self._text):
            self._at += 1
            self._good &= not after
            after = self._index()
            if self._char() == "*":
                precision, after = self._star(), False
                if precision is None:
                    yield "%!(BADPREC)"
                elif precision < 0:
                    precision = None
            else:
                precision = self._number() or 0
        if not after:
            self._index()
        if max(width or 0, precision or 0) > self._most:
            raise ValueError(f"the text has more than {self._most:,} characters")
        yield self._printed(flags, width, precision)

    def _printed(self, flags: str, width: int | None, precision: int | None) -> str:
        verb = self._char()
        self._at += 1
        if not verb:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if not self._good:
            return f"%!{verb}(BADINDEX)"
        if self._next >= len(self._values):
            return f"%!{verb}(MISSING)"
        self._next += 1
        form = _form(flags, width, precision, verb)
        return _value(self._values[self._next - 1], verb, form)

    def _flags(self) -> str:
        begin = self._at
        while (char := self._char()) and char in "#0+- ":
            self._at += 1
        return self._text[begin : self._at]

    def _char(self) -> str:
        return self._text[self._at : self._at + 1]

    def _number(self) -> int | None:
        """One that is too large ends the format."""
        number: int | None = None
        while (char := self._char()) and char in "0123456789":
            if (number or 0) > _WIDEST:
                self._at = len(self._text)
                return None
            number = (number or 0) * 10 + int(char)
            self._at += 1
        return number

    def _star(self) -> int | None:
        """The width or precision that is the next value; None for what can be none."""
        self._at += 1
        if self._next >= len(self._values):
            return None
        value = self._values[self._next]
        self._next += 1
        usable = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _WIDEST
        return int(str(value)) if usable else None

    def _index(self) -> bool:
        """Takes `[3]`, which says that the third value comes next."""
        if self._char() != "[":
            return False
        self._indexed = True
        close = self._text.find("]", self._at)
        inside = self._text[self._at + 1 : close] if close > 0 else ""
        self._at = close + 1 if close > 0 else self._at + 1
        if inside.isascii() and inside.isdigit() and 0 < int(inside) <= len(self._values):
            self._next = int(inside) - 1
            return True
        self._good = False
        return inside.isascii() and inside.isdigit()


def _form(flags: str, width: int | None, precision: int | None, verb: str) -> _Form:
    if not flags and width is None and precision is None:
        return _NO_FLAGS
    sharp, minus, goes = "#" in flags, "-" in flags, verb == "v"
    return _Form(
        sharp=sharp and not goes,
        zero="0" in flags and not minus,
        plus="+" in flags and not goes,
        minus=minus,
        space=" " in flags,
        go=sharp and goes,
        width=width,
        precision=precision,
    )


def _extra(value: object) -> str:
    return "<nil>" if value is None else f"{_type(value)}={_value(value, 'v', _NO_FLAGS)}"


def _value(value: object, verb: str, form: _Form) -> str:
    if value is None:
        return form.pad("<nil>") if verb in "Tv" else f"%!{verb}(<nil>)"
    if verb == "T":
        return form.pad(form.cut(_type(value)))
    if verb == "p" and not isinstance(value, Mapping):
        return _bad(value, verb, form)
    if isinstance(value, Stringer) and (text := _own_text(value, verb, form)) is not None:
        return form.pad(text) if form.go else _text(text, verb, form)
    return _PRINTERS[_kind(value)](value, verb, form)


def _own_text(value: Stringer, verb: str, form: _Form) -> str | None:
    """None where Go prints the number that a month or a duration is."""
    if form.go:
        return value.go_string() if verb == "v" else None
    return str(value) if verb in "vsqxX" else None


def _kind(value: object) -> type:
    for kind in (str, bool, int, float, Mapping):
        if isinstance(value, kind):
            return kind
    raise NotPlain


def _type(value: object) -> str:
    if isinstance(value, Stringer):
        return value.go_type
    if isinstance(value, Mapping):
        return "map[string]interface {}" if type(value) is dict else "map[string]string"
    return {str: "string", bool: "bool", int: "int", float: "float64"}[_kind(value)]


def _bad(value: object, verb: str, form: _Form) -> str:
    plain = int(value) if isinstance(value, int) and isinstance(value, Stringer) else value
    return f"%!{verb}({_type(value)}={_value(plain, 'v', form)})"


def _text(value: str, verb: str, form: _Form) -> str:
    if verb in "xX":
        return _hex(value.encode(), verb, form)
    if verb == "q" or (verb == "v" and form.go):
        cut = form.cut(value)
        if form.sharp and _fits_backquotes(cut):
            return form.pad(f"`{cut}`")
        quoted = _REPLACED.join(quote(part)[1:-1] for part in cut.split(_REPLACED))
        return form.pad(f'"{_ascii(quoted) if form.plus else quoted}"')
    return form.pad(form.cut(value)) if verb in "vs" else _bad(value, verb, form)


def _fits_backquotes(text: str) -> bool:
    return not any(char < " " and char != "\t" or char in "`\x7f\ufeff" for char in text)


def _ascii(quoted: str) -> str:
    """`\\u00e9` for what is not ASCII."""
    return "".join(
        char if char.isascii() else f"\\u{ord(char):04x}" if ord(char) < 1 << 16
        else f"\\U{ord(char):08x}"
        for char in quoted
    )  # fmt: skip


def _hex(data: bytes, verb: str, form: _Form) -> str:
    data = data if form.precision is None else data[: form.precision]
    digits = [f"{byte:02X}" if verb == "X" else f"{byte:02x}" for byte in data]
    prefix = f"0{verb}" if form.sharp and data else ""
    if form.space:
        return form.pad(" ".join(prefix + digit for digit in digits))
    return form.pad(prefix + "".join(digits))


def _truth(value: bool, verb: str, form: _Form) -> str:
    return form.pad(str(value).lower()) if verb in "vt" else _bad(value, verb, form)


def _integer(value: int, verb: str, form: _Form) -> str:
    if verb in "cq":
        char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else _REPLACED
        quoted = char if verb == "c" else "'\ufffd'" if char == _REPLACED else quote_char(char)
        return form.pad(_ascii(quoted) if form.plus and verb == "q" else quoted)
    if verb == "U":
        shown = f"U+{value % (1 << 64):0{max(form.precision or 0, 4)}X}"
        known = 0 <= value <= 0x10FFFF and chr(value).isprintable()
        return form.pad_blank(f"{shown} '{chr(value)}'" if form.sharp and known else shown)
    base = _BASES.get("d" if verb == "v" else verb)
    if base is None:
        return _bad(value, verb, form)
    if form.precision == 0 and value == 0:
        return " " * (form.width or 0)
    sign = "-" if value < 0 else "+" if form.plus else " " if form.space else ""
    least = form.precision or 0
    if form.precision is None and form.zero and form.width is not None:
        least = form.width - len(sign)
    digits = _digits(abs(value), base, verb).rjust(least, "0")
    if form.sharp and base == 8 and verb == "o" and not digits.startswith("0"):
        digits = "0" + digits
    prefix = "0o" if verb == "O" else _PREFIXES.get(verb, "") if form.sharp else ""
    return form.pad_blank(sign + prefix + digits)


def _digits(value: int, base: int, verb: str) -> str:
    return format(value, {2: "b", 8: "o", 10: "d", 16: "X" if verb == "X" else "x"}[base])


def _number(value: float, verb: str, form: _Form) -> str:
    if verb not in "vbgGxXfFeE":
        return _bad(value, verb, form)
    usual = 6 if verb in "fFeE" else None
    precision = usual if form.precision is None else form.precision
    text = format_float(value, {"F": "f", "v": "g"}.get(verb, verb), precision)
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("+", text.lstrip("+"))
    if sign == "+" and form.space and not form.plus:
        sign = " "
    if not math.isfinite(value):
        plain = math.isnan(value) and not (form.space or form.plus)
        shown = form.plus or sign != "+" or math.isinf(value) and text[0] == "+"
        return form.pad_blank(digits if plain or not shown else sign + digits)
    if form.sharp and verb != "b":
        digits = _with_point(digits, verb, precision)
    if not form.plus and sign == "+":
        return form.pad(digits)
    if form.zero and form.width is not None:
        return sign + digits.rjust(form.width - 1, "0")
    return form.pad(sign + digits)


def _with_point(digits: str, verb: str, precision: int | None) -> str:
    """With a decimal point, and for %g the zeros behind it."""
    wanted = (6 if precision is None else precision) if verb in "vgGx" else 0
    marks = "pP" if verb in "xX" else "eE"
    at = next((place for place, char in enumerate(digits) if char in marks), len(digits))
    mantissa, tail = digits[:at], digits[at:]
    significant = mantissa.replace(".", "").lstrip("0")
    wanted -= len(significant)
    if "." not in mantissa:
        wanted -= mantissa == "0"
        mantissa += "."
    return mantissa + "0" * max(wanted, 0) + tail


def _map(value: Mapping[str, object], verb: str, form: _Form) -> str:
    if verb == "p":
        raise NotPlain
    pairs = [
        f"{_value(str(key), verb, form)}:{_value(value[key], verb, form)}" for key in sorted(value)
    ]
    if form.go:
        return f"{_type(value)}{{{', '.join(pairs)}}}"
    return f"map[{' '.join(pairs)}]"


_PRINTERS: Mapping[type, Callable[..., str]] = {
    str: _text,
    bool: _truth,
    int: _integer,
    float: _number,
    Mapping: _map,
}
