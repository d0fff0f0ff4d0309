"""A place among the tokens of a query, and the limits on what may be built from them."""

from typing import NoReturn, TypeAlias

from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.ast import DurationExpr, Expr, PositionRange
from tocsin_alerting.promql.parser.lexer import Lexer
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.parser.tokens import Token, TokenKind

Node: TypeAlias = Expr | DurationExpr

MAX_NESTING = 100
"""How deep parentheses, calls and unary operators may stand in one another."""

MAX_HEIGHT = 200
"""How many nodes may lie between an expression and its deepest part: `a + a + ...` counts too.

These two keep every recursive walk over an expression far from Python's own limit.
"""


MAX_TOKENS = 20_000
"""How many words a query may have: a tenth of a second of parsing, which nobody waits for."""


class Cursor:
    """The parser's state; `peek` raises ParseError when it meets what the lexer refused."""

    def __init__(self, query: str, semantics: Semantics) -> None:
        self.query = query
        self.semantics: Semantics = semantics
        self._lexer = Lexer(query, semantics)
        self._tokens = self._lexer.tokens
        self._index = 0
        self._current: Token | None = None  # the one at the index, once it was looked at
        self._nesting = 0
        self._aggregations = 0
        self._heights: dict[int, tuple[int, Node]] = {}

    def peek(self) -> Token:
        return self._current or self._load()

    def _load(self) -> Token:
        if self._index == len(self._tokens):
            self._read()
        token = self._tokens[self._index]
        if token.kind is TokenKind.ERROR:
            self.fail(token.text, PositionRange(token.start, len(self.query)))
        self._current = token
        return token

    def _read(self) -> None:
        if self._index >= MAX_TOKENS:
            message = f"query has more than {MAX_TOKENS} words"
            self.fail(message, PositionRange(self._lexer.at, len(self.query)))
        self._lexer.read()

    def next_name(self) -> str:
        """The name of the token after this one, "" at an error or the end."""
        if self.peek().kind is TokenKind.END:
            return ""
        if self._index + 1 == len(self._tokens):
            self._lexer.read()
        return self._tokens[self._index + 1].name

    def take(self) -> Token:
        token = self._current or self._load()
        self._index += 1
        self._current = None
        return token

    def accept(self, name: str) -> Token | None:
        token = self._current or self._load()
        if token.name != name:
            return None
        self._index += 1
        self._current = None
        return token

    def expect(self, name: str, context: str = "", expected: str = "") -> Token:
        return self.accept(name) or self.unexpected(context, expected)

    def unexpected(self, context: str = "", expected: str = "") -> NoReturn:
        """Refuse the token here; without a `context` an aggregation around it is named."""
        token = self.peek()
        context = context or ("aggregation" if self._aggregations else "")
        where = f" in {context}" if context else ""
        instead = f", expected {expected}" if expected else ""
        # 2.42 has no name for this one and shows its number.
        unnamed = '"<Item 57385>" ' if token.name == "@" and self.semantics == 2 else ""
        self.fail(f"unexpected {unnamed}{token.described}{where}{instead}", token.span)

    def fail(self, message: str, span: PositionRange) -> NoReturn:
        raise ParseError(message, span, self.query)

    def enter_aggregation(self) -> None:
        """What is refused until `leave_aggregation` is refused "in aggregation"."""
        self._aggregations += 1

    def leave_aggregation(self) -> None:
        self._aggregations -= 1

    def enter(self) -> None:
        """Go one level deeper; every `enter` that returns is followed by a `leave`."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self._too_deep(MAX_NESTING)

    def leave(self) -> None:
        self._nesting -= 1

    def grown(self, node: Node, *below: Node) -> None:
        """Note how high `node` stands above its children, and refuse it when that is too high."""
        height = 1
        for child in below:
            if known := self._heights.get(id(child)):
                height = max(height, known[0] + 1)
        if height > MAX_HEIGHT:
            self._too_deep(MAX_HEIGHT)
        # The node is kept with its height so that no other node takes over its id.
        self._heights[id(node)] = (height, node)

    def _too_deep(self, limit: int) -> NoReturn:
        self.fail(f"expression is nested more than {limit} levels deep", self.peek().span)
