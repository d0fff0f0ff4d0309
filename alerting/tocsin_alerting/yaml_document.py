"""A YAML document that remembers where everything stands, so that an error can say so.

Scalars follow YAML 1.2's core schema: `no` and `1:30` are text, `0o17` is octal, and a key that
stands twice is an error, not a silent winner.
"""

import codecs
import difflib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import yaml

from tocsin_alerting.yaml_compose import TooDeep, compose, compose_plain
from tocsin_alerting.yaml_merge_keys import OWN_KEYS_WIN, MergeError, MergeRules, is_merge, resolve
from tocsin_exporter.files import file_bytes

Path = tuple[str | int, ...]
MAX_BYTES = 16_000_000  # of a file: ten times the largest set of rules that is known
MAX_PROBLEMS = 100
_MAX_WORD = 200  # that may be a known one mistyped
_MAX_NUMBER = 400  # digits; the largest double has 309

_BEGIN_NUMBERS = frozenset("0123456789.+-")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULLS = ("", "~", "null", "Null", "NULL")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(_NULLS),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong at a place in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class InvalidDocument(ValueError):
    """Every problem of a document at once, in the order of the lines; of very many the first.

    `more` is how many there are besides `problems`.
    """

    def __init__(self, problems: Iterable[Problem], more: int = 0) -> None:
        every = sorted(problems)
        # One more is the line that counts the others of a part.
        self.problems = every if len(every) <= MAX_PROBLEMS + 1 else every[:MAX_PROBLEMS]
        if more := more + len(every) - len(self.problems):
            last = self.problems[-1]
            self.problems.append(replace(last, message=f"{more:,} more problems are not shown"))
        super().__init__("\n".join(map(str, self.problems)))


class Document:
    """One parsed YAML document: `data` is plain Python, `position` finds any part of it."""

    def __init__(self, file: str, root: yaml.Node | None, source: str = "") -> None:
        self.file = file
        self.root = root
        self._lines = source.split("\n")
        self._by_key: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}
        self._last: tuple[Path, yaml.Node | None] = ((), root)
        self.data: Any = None if root is None else _Plain().of(root)

    def position(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """The line and column of the value at `path` (of its key, with `key`).

        A path that leads nowhere gives the nearest part that exists.
        """
        node = None if key else self.node(path)
        if node is None:
            mark_node, key_node = self._find(path)
            node = key_node if key and key_node is not None else mark_node
        if node is None:
            return 1, 1
        return node.start_mark.line + 1, node.start_mark.column + 1

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        return Problem(self.file, *self.position(path, key=key), message)

    def text(self, path: Path) -> str | None:
        """The scalar at `path` as it is written, `0o17` and `~` too; None when it is no scalar."""
        node = self.node(path)
        return node.value if type(node) is yaml.ScalarNode else None

    def texts(self, path: Path) -> dict[str, str] | None:
        """The mapping at `path` as it is written, a `null` as ""; None where it is no mapping, or
        holds more than scalars."""
        node = self.node(path)
        if type(node) is not yaml.MappingNode:
            return None
        texts: dict[str, str] = {}
        for key, value in node.value:
            if type(value) is not yaml.ScalarNode:
                return None
            texts[key.value] = "" if is_null(value) else value.value
        return texts

    def plain(self, path: Path) -> str | None:
        """The scalar at `path` as it is written, if that is without quotes."""
        node = self.node(path)
        return str(node.value) if isinstance(node, yaml.ScalarNode) and not node.style else None

    def text_position(self, path: Path, offset: int) -> tuple[int, int]:
        """Where character `offset` of the scalar at `path` stands, in blocks and quotes too.

        The start of the scalar where the text cannot be followed (escapes).
        """
        node = self.node(path)
        if not isinstance(node, yaml.ScalarNode):
            return self.position(path)
        position = _follow(self._lines, node, offset)
        return self.position(path) if position is None else position

    def child(
        self, node: yaml.Node | None, step: str | int
    ) -> tuple[yaml.Node | None, yaml.Node] | None:
        """The key and the value that `step` leads to."""
        if type(node) is yaml.MappingNode:
            keys = self._by_key.get(id(node))
            if keys is None:
                keys = {key.value: (key, value) for key, value in node.value}
                self._by_key[id(node)] = keys
            return keys.get(step if type(step) is str else str(step))
        if type(node) is yaml.SequenceNode and isinstance(step, int) and step < len(node.value):
            return None, node.value[step]
        return None

    def node(self, path: Path) -> yaml.Node | None:
        """The node at `path`, None when it does not lead there. What is read one after another
        mostly stands in one collection, which is found once."""
        if not path:
            return self.root
        above = path[:-1]
        if above != self._last[0]:
            self._last = above, self.node(above)
        child = self.child(self._last[1], path[-1])
        return None if child is None else child[1]

    def _find(self, path: Path) -> tuple[yaml.Node | None, yaml.Node | None]:
        node, key_node = self.root, None
        for step in path:
            child = self.child(node, step)
            if child is None:
                break
            key_node, node = child
        return node, key_node


def file_text(file: str | FilePath) -> str:
    """What stands in `file`. Raises OSError, also for too large a one, or UnicodeDecodeError."""
    data = file_bytes(file, MAX_BYTES, "; split it")
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = data.decode("utf-16" if wide else "utf-8")
    return io.StringIO(text, newline=None).read()  # every kind of line end is one


def read_text(file: str) -> str:
    """As `file_text`; raises InvalidDocument when it cannot be read, or has a name that is no
    UTF-8: neither a label nor the journal can hold it."""
    try:
        file.encode()
    except UnicodeEncodeError:
        shown = file.encode(errors="backslashreplace").decode()
        why = "the name of this file is not UTF-8; rename it"
        raise InvalidDocument([Problem(shown, 1, 1, why)]) from None
    try:
        return file_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(file, error) from None


def unreadable(file: str, error: OSError | UnicodeDecodeError) -> InvalidDocument:
    """Why the text of `file` cannot be had; its first byte that is no UTF-8 is the place."""
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return InvalidDocument([Problem(file, 1, 1, f"cannot read this file: {why}")])
    before = error.object[: error.start]
    line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2]) + 1
    return InvalidDocument([Problem(file, line, column, "not text in UTF-8; save it as UTF-8")])


def parse(text: str, file: str, merging: MergeRules = OWN_KEYS_WIN) -> Document:
    """The first document of `text`. Raises InvalidDocument for what is not YAML."""
    if (root := compose_plain(text)) is not None:
        try:
            return Document(file, root, text)
        except _RepeatedKey:  # whose place is told below
            pass
    try:
        composed = compose(text)
    except TooDeep as error:
        raise InvalidDocument([_at_mark(file, error.mark, str(error))]) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidDocument([_syntax_problem(file, text, error)]) from None
    problems = [
        problem for node in composed.repeating for problem in _repeated_keys(file, node, merging)
    ]
    if problems:
        raise InvalidDocument(problems)
    try:
        if composed.joined:
            resolve(composed.root, merging)
    except MergeError as error:
        raise InvalidDocument([_at_mark(file, error.node.start_mark, str(error))]) from None
    return Document(file, composed.root, text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` when another known word is near, else nothing."""
    others = [candidate for candidate in known if candidate != word and len(word) < _MAX_WORD]
    near = difflib.get_close_matches(word, others, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _syntax_problem(file: str, text: str, error: Exception) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        what = ", ".join(filter(None, (error.context, error.problem)))
        mark = error.problem_mark or error.context_mark
        return _at_mark(file, mark, f"not YAML: {what}{_tab_hint(text, mark)}")
    if isinstance(error, UnicodeError):
        return Problem(file, 1, 1, "not text in UTF-8; save it as UTF-8")
    match = _UNREADABLE.search(text)
    before = text[: match.start()] if match else ""
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    return Problem(file, line, column, f"not YAML: {str(error).splitlines()[0]}; remove it")


def _tab_hint(text: str, mark: Any) -> str:
    """The commonest cause, which YAML's own words do not name."""
    lines = text.split("\n")
    if mark is None or mark.line >= len(lines):
        return ""
    line = lines[mark.line]
    indent = line[: len(line) - len(line.lstrip())]
    return "; indent with spaces, not with tabs" if "\t" in indent else ""


def _at_mark(file: str, mark: Any, message: str) -> Problem:
    """`mark` is a yaml mark, or None where yaml gives none."""
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Problem(file, line, column, message)


def _repeated_keys(file: str, node: yaml.MappingNode, merging: MergeRules) -> Iterable[Problem]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        name, mark = str(key.value), key.start_mark
        if not isinstance(key, yaml.ScalarNode):
            yield _at_mark(file, mark, "a key must be text, not a list or a mapping")
            continue
        if name in first and not (merging.in_order and is_merge(key)):
            message = f'key "{name}" is defined twice, first in line {first[name]}; remove one'
            yield Problem(file, mark.line + 1, mark.column + 1, message)
        first.setdefault(name, mark.line + 1)


class _RepeatedKey(ValueError):
    """A key that stands twice in its mapping, or is no text."""


class _Plain:
    """Nodes as plain Python; an alias gives its anchor's own object, so that none can swell."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, node: yaml.Node) -> Any:
        """Raises _RepeatedKey."""
        if type(node) is yaml.ScalarNode:
            return _scalar(node)
        if id(node) not in self._made:
            self._made[id(node)] = self._collection(node)
        return self._made[id(node)]

    def _collection(self, node: yaml.Node) -> Any:
        if type(node) is yaml.SequenceNode:
            return [self.of(item) for item in node.value]
        try:
            made = {key.value: self.of(value) for key, value in node.value}
        except TypeError:
            raise _RepeatedKey from None
        if len(made) != len(node.value):
            raise _RepeatedKey
        return made


def is_null(node: yaml.ScalarNode) -> bool:
    return node.value in _NULLS and not node.style and node.tag != "!"


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.style or node.tag == "!":  # plain is None or ""
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _BEGIN_NUMBERS:
        return text
    if _INT.fullmatch(text):
        if len(text) > _MAX_NUMBER:
            return text  # no number that anything here could be
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _follow(lines: Sequence[str], node: yaml.ScalarNode, offset: int) -> tuple[int, int] | None:
    """Line and column of a character of a scalar; its end is one past its last character.

    Folding, indentation and quotes change blanks only: the n-th character that is no blank is the
    n-th in the source as well.
    """
    inked = [char for char in node.value if not char.isspace()]
    before = sum(not char.isspace() for char in node.value[:offset])
    past_the_end = before == len(inked)
    wanted = before - past_the_end
    for number, (line, column, char) in enumerate(_visible_characters(lines, node)):
        if number == wanted:
            same = wanted >= 0 and char == inked[wanted]
            return (line, column + past_the_end) if same else None
    return None


def _visible_characters(
    lines: Sequence[str], node: yaml.ScalarNode
) -> Iterable[tuple[int, int, str]]:
    """Each character of the source from the scalar's first on that is no blank, with its place."""
    start, column = node.start_mark.line, node.start_mark.column
    if node.style in ("|", ">"):
        start, column = start + 1, 0
    elif node.style:
        column += 1
    for number in range(start, min(node.end_mark.line + 1, len(lines))):
        for at, char in enumerate(lines[number]):
            if not char.isspace() and (number > start or at >= column):
                yield number + 1, at + 1, char
