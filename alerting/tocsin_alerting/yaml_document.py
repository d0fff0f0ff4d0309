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
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tocsin_alerting.yaml_merge_keys import OWN_KEYS_WIN, MergeError, MergeRules, is_merge, resolve
from tocsin_exporter.files import file_bytes

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
MAX_DEPTH = 100
MAX_BYTES = 16_000_000  # of a file: ten times the largest set of rules that is known
MAX_PROBLEMS = 100
_MAX_WORD = 200  # that may be a known one mistyped
_MAX_NUMBER = 400  # digits; the largest double has 309
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
# What pydantic's kinds of errors mean to the writer of a file, with the values of their contexts.
_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "must be a list"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
        "must be a mapping",
    ),
    **dict.fromkeys(
        ("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "must be a whole number"
    ),
    **dict.fromkeys(("float_type", "finite_number"), "must be a number"),
    "bool_type": "must be true or false",
    "string_type": "must be text",
    **dict.fromkeys(("literal_error", "enum"), "must be {expected}"),
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "none_required": "must be left out",
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
        self.data: Any = None if root is None else _Plain().of(root)

    def position(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """The line and column of the value at `path` (of its key, with `key`).

        A path that leads nowhere gives the nearest part that exists.
        """
        mark_node, key_node = self._find(path)
        node = key_node if key and key_node is not None else mark_node
        if node is None:
            return 1, 1
        return node.start_mark.line + 1, node.start_mark.column + 1

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        return Problem(self.file, *self.position(path, key=key), message)

    def text(self, path: Path) -> str | None:
        """The scalar at `path` as it is written, `0o17` and `~` too; None when it is no scalar."""
        node = self._at(path)
        return str(node.value) if isinstance(node, yaml.ScalarNode) else None

    def plain(self, path: Path) -> str | None:
        """The scalar at `path` as it is written, if that is without quotes."""
        node = self._at(path)
        return str(node.value) if isinstance(node, yaml.ScalarNode) and not node.style else None

    def text_position(self, path: Path, offset: int) -> tuple[int, int]:
        """Where character `offset` of the scalar at `path` stands, in blocks and quotes too.

        The start of the scalar where the text cannot be followed (escapes).
        """
        node = self._at(path)
        if not isinstance(node, yaml.ScalarNode):
            return self.position(path)
        position = _follow(self._lines, node, offset)
        return self.position(path) if position is None else position

    def child(
        self, node: yaml.Node | None, step: str | int
    ) -> tuple[yaml.Node | None, yaml.Node] | None:
        """The key and the value that `step` leads to."""
        if isinstance(node, yaml.MappingNode):
            keys = self._by_key.get(id(node))
            if keys is None:
                keys = {str(key.value): (key, value) for key, value in reversed(node.value)}
                self._by_key[id(node)] = keys
            return keys.get(str(step))
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            return None, node.value[step]
        return None

    def _at(self, path: Path) -> yaml.Node | None:
        """The node at `path`, None when it does not lead there."""
        node = self.root
        for step in path:
            child = self.child(node, step)
            if child is None:
                return None
            node = child[1]
        return node

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
    try:
        _refuse_depth(text, file)
        loader = Loader(text)
        try:
            root = loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidDocument([_syntax_problem(file, text, error)]) from None
    problems = _duplicates(file, root, merging)
    if problems:
        raise InvalidDocument(problems)
    try:
        resolve(root, merging)
    except MergeError as error:
        raise InvalidDocument([_at_mark(file, error.node.start_mark, str(error))]) from None
    return Document(file, root, text)


def _refuse_depth(text: str, file: str) -> None:
    """The composer recurses in C, where a deep document ends the process."""
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.DocumentEndEvent):
            return
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidDocument(
                [_at_mark(file, event.start_mark, f"nested more than {MAX_DEPTH} deep; flatten it")]
            )


def validate(model: type[M], document: Document) -> M:
    """`document` as `model`. Raises InvalidDocument with every problem, placed and explained."""
    data = {} if document.data is None else document.data
    try:
        return model.model_validate(data)
    except ValidationError as error:
        every = cast(Sequence[Mapping[str, Any]], error.errors(include_url=False))
        shown = (_placed(document, model, problem) for problem in every[:MAX_PROBLEMS])
        raise InvalidDocument(shown, max(0, len(every) - MAX_PROBLEMS)) from None


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


def _duplicates(file: str, root: yaml.Node | None, merging: MergeRules) -> list[Problem]:
    problems: list[Problem] = []
    pending: list[yaml.Node] = [root] if root is not None else []
    visited: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in visited:  # an alias: seen where its anchor stands
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            problems.extend(_repeated_keys(file, node, merging))
            pending.extend(value for _, value in node.value)
    return problems


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


class _Plain:
    """Nodes as plain Python; an alias gives its anchor's own object, so that none can swell."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) not in self._made:
            self._made[id(node)] = self._collection(node)
        return self._made[id(node)]

    def _collection(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self.of(item) for item in node.value]
        return {str(key.value): self.of(value) for key, value in node.value}


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.style or node.tag == "!":  # plain is None or ""
        return text
    if text in _WORDS:
        return _WORDS[text]
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


def _placed(document: Document, model: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    path = _real_path(document, error["loc"])
    dotted = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _siblings(model, document.data, path[:-1]))
        return document.problem(path, f'unknown key "{dotted}"{hint}', key=True)
    if error["type"] == "missing":
        return document.problem(path[:-1], f'"{dotted}" is missing; add it')
    message = _error_text(error)
    return document.problem(path, f"{dotted}: {message}" if dotted else message)


def _error_text(error: Mapping[str, Any]) -> str:
    """pydantic speaks of Python's types; the reader of a YAML file knows lists and mappings."""
    words = _EXPECTED.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Value error, ")
    quotable = error["type"] == "string_type" and isinstance(error["input"], int | float)
    text = words.format_map(error.get("ctx", {})).replace("True", "true").replace("False", "false")
    return text + ("; quote it" if quotable else "")


def _real_path(document: Document, loc: Sequence[str | int]) -> Path:
    """pydantic puts the tags of unions into a location; keep the steps that the file has."""
    path: list[str | int] = []
    node = document.root
    for step in loc:
        child = document.child(node, step)
        if child is not None:
            path.append(step)
            node = child[1]
    last = loc[-1] if loc else None
    if last is not None and (not path or path[-1] != last) and isinstance(last, str | int):
        path.append(last)
    return tuple(path)


def _siblings(model: type[BaseModel], data: Any, path: Path) -> list[str]:
    """The keys that the model knows at `path` of `data`, through lists, dicts and optionals; of a
    union those of the member that the data's `type` chose."""
    options: list[Any] = [model]
    for step in path:
        options = [inner for kind in options for inner in _inner_types(kind, step)]
        data = _value(data, step)
        options = [kind for kind in options if _is_chosen(kind, data)]
    known: list[str] = []
    for kind in options:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known += [field.alias or name for name, field in kind.model_fields.items()]
    return known


def _value(data: Any, step: str | int) -> Any:
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return None


def _is_chosen(kind: Any, data: Any) -> bool:
    """Whether `data` can be meant as `kind`: not when `kind` fixes another `type`."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return True
    tag = kind.model_fields.get("type")
    tags = get_args(tag.annotation) if tag is not None else ()
    return not tags or not isinstance(data, dict) or data.get("type") in tags


def _inner_types(kind: Any, step: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if step in (name, field.alias):
                return _flat(field.annotation)
        return []
    return [inner for argument in get_args(kind) for inner in _flat(argument)]


def _flat(kind: Any) -> list[Any]:
    """The members of a union (Annotated taken off); a kind that is no union alone."""
    if get_origin(kind) is Annotated:
        return _flat(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [inner for member in get_args(kind) for inner in _flat(member)]
    return [kind]
