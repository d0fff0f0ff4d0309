"""Text to tokens. What a character means depends on the bracket that it stands in."""

import re
from collections.abc import Callable

from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.parser.tokens import FILLS, WORDS, Token, TokenKind
from tocsin_alerting.strconv import quote, quote_char

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


_SKIP = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL_2 = re.compile(r"==|!=|<=|>=|[-+*/%^(){\[\],=<>@]")
_SYMBOL_3 = re.compile(r"==|!=|<=|>=|</|>/|[-+*/%^(){\[\],=<>@]")
_BRACE_SYMBOL = re.compile(r"=~|!=|!~|[,=}]")
_DURATION_WORD = re.compile(r"[A-Za-z_]+")
_PAREN_AHEAD = re.compile(r"[ \t\r\n]*\(")
_PUNCTUATION = frozenset("(){}[],=")


class Lexer:
    """Reads tokens one after another into `tokens`, only as far as the parser asks.

    The last token of a query is END, or an ERROR where the text makes no sense.
    """

    def __init__(self, query: str, semantics: Semantics) -> None:
        self.query = query
        self.semantics: Semantics = semantics
        self.words = WORDS[semantics]
        self.symbols = _SYMBOL_2 if semantics == 2 else _SYMBOL_3
        self.tokens: list[Token] = []
        self.at = 0  # the next character to read
        self.parens = 0
        self.in_braces = False
        self.in_brackets = False
        self.in_duration = False  # in brackets, and nothing but a duration may come
        self.colon_seen = False

    def read(self) -> None:
        """Append the next token; nothing comes after END and ERROR."""
        try:
            self._step()
        except LexicalError as error:
            self.tokens.append(Token(TokenKind.ERROR, str(error), error.at))

    def _step(self) -> None:
        self.at = _match_end(_SKIP, self.query, self.at)
        char = self.query[self.at : self.at + 1]
        if self.in_braces:
            self._brace(char)
        elif self.in_duration:
            self._duration(char)
        else:
            self._outside(char)

    def emit(self, kind: TokenKind, end: int, name: str = "") -> None:
        self.tokens.append(Token(kind, self.query[self.at : end], self.at, name))
        self.at = end

    def fail(self, message: str) -> LexicalError:
        return LexicalError(message, self.at)

    def _outside(self, char: str) -> None:
        if char and (char.isascii() and char.isalpha() or char in "_:"):
            return self._bracket_word(char) if self.in_brackets else self._word()
        if match := self.symbols.match(self.query, self.at):
            return self._symbol(match.group())
        if char and (char in "0123456789" or char == "." and self._digit_follows()):
            return self._number()
        if char and char in "\"'`":
            return self.emit(TokenKind.STRING, scan_string(self.query, self.at))
        if char:
            raise self.fail(self._strange(char))
        return self._finish()

    def _word(self) -> None:
        end = _match_end(_WORD, self.query, self.at)
        text = self.query[self.at : end]
        name = text.lower()
        kind = self.words.get(name)
        if kind is TokenKind.NUMBER:
            return self.emit(kind, end)
        if kind is None or name in FILLS and not _PAREN_AHEAD.match(self.query, end):
            return self.emit(
                TokenKind.METRIC_IDENTIFIER if ":" in text else TokenKind.IDENTIFIER, end
            )
        return self.emit(kind, end, name)

    def _bracket_word(self, char: str) -> None:
        if char == ":" or self.semantics == 2:  # which takes any letter for a colon
            if self.colon_seen:
                raise self.fail(f"unexpected colon {quote_char(char)}")
            return self._colon()
        if not self._duration_word():
            raise self.fail(f"unexpected character: {quote_char(char)}, expected ':'")
        return None

    def _duration_word(self) -> bool:
        match = _DURATION_WORD.match(self.query, self.at)
        name = match.group().lower() if match and self.semantics == 3 else ""
        if match and name not in ("start", "end") and self.words.get(name) is TokenKind.CALLABLE:
            self.emit(TokenKind.CALLABLE, match.end(), name)
            return True
        return False

    def _colon(self) -> None:
        self.emit(TokenKind.PUNCTUATION, self.at + 1, ":")
        self.colon_seen = True

    def _symbol(self, symbol: str) -> None:
        kind = TokenKind.PUNCTUATION if symbol in _PUNCTUATION else TokenKind.OPERATOR
        if symbol == "=" and self.query[self.at + 1 : self.at + 2] == "~":
            raise self.fail("unexpected character after '=': '~'")
        if bracket := _BRACKETS.get(symbol):
            bracket(self)
        self.emit(kind, self.at + len(symbol), symbol)

    def _open_paren(self) -> None:
        self.parens += 1

    def _close_paren(self) -> None:
        self.parens -= 1
        if self.parens < 0:
            raise LexicalError("unexpected right parenthesis ')'", self.at + 1)

    def _open_brace(self) -> None:
        self.in_braces = True

    def _open_bracket(self) -> None:
        if self.in_brackets:
            raise self.fail("unexpected left bracket '['")
        self.in_brackets = self.in_duration = True
        self.colon_seen = False

    def _close_bracket(self) -> None:
        if not self.in_brackets:
            raise self.fail("unexpected right bracket ']'")
        self.in_brackets = self.in_duration = False

    def _number(self) -> None:
        kind, end = scan_number(self.query, self.at, self.semantics)
        self.emit(kind, end)
        self.in_duration = False

    def _digit_follows(self) -> bool:
        return self.query[self.at + 1 : self.at + 2] in tuple("0123456789")

    def _brace(self, char: str) -> None:
        if match := _LABEL.match(self.query, self.at):
            return self.emit(TokenKind.IDENTIFIER, match.end())
        if match := _BRACE_SYMBOL.match(self.query, self.at):
            return self._brace_symbol(match.group())
        if char and char in "\"'`":
            return self.emit(TokenKind.STRING, scan_string(self.query, self.at))
        raise self.fail(self._strange_in_braces(char))

    def _brace_symbol(self, symbol: str) -> None:
        if symbol == "}":
            self.in_braces = False
        kind = TokenKind.PUNCTUATION if symbol in _PUNCTUATION else TokenKind.OPERATOR
        self.emit(kind, self.at + len(symbol), symbol)

    def _duration(self, char: str) -> None:
        if self.semantics == 2:
            return self._plain_duration()
        if char and char in "()+-*/%^,]":
            return self._symbol(char)
        if char == ":":
            if self.tokens[-1].name == "[":
                raise self.fail("unexpected colon before duration in duration expression")
            return self._bracket_word(char)
        if char and (char in "0123456789" or char == "." and self._digit_follows()):
            return self._number()
        if not char:
            raise self.fail("unexpected end of input in duration expression")
        if not self._duration_word():
            raise self.fail(f"unexpected character in duration expression: {quote_char(char)}")
        return None

    def _plain_duration(self) -> None:
        kind, end = scan_number(self.query, self.at, 2, "bad duration syntax")
        if kind is TokenKind.NUMBER:
            raise self.fail("missing unit character in duration")
        self.emit(kind, end)
        self.in_duration = False

    def _strange(self, char: str) -> str:
        if char == "!":
            return f"unexpected character after '!': {quote_char(self.query[self.at + 1 :][:1])}"
        return f"unexpected character: {quote_char(char)}"

    def _strange_in_braces(self, char: str) -> str:
        if not char:
            return "unexpected end of input inside braces"
        if char == "{":
            return "unexpected left brace '{'"
        if char == "!":
            after = quote_char(self.query[self.at + 1 :][:1])
            return f"unexpected character after '!' inside braces: {after}"
        return f"unexpected character inside braces: {quote_char(char)}"

    def _finish(self) -> None:
        if self.parens:
            raise self.fail("unclosed left parenthesis")
        if self.in_brackets:
            raise self.fail("unclosed left bracket")
        self.emit(TokenKind.END, self.at)


_BRACKETS: dict[str, Callable[[Lexer], None]] = {
    "(": Lexer._open_paren,
    ")": Lexer._close_paren,
    "{": Lexer._open_brace,
    "[": Lexer._open_bracket,
    "]": Lexer._close_bracket,
}
