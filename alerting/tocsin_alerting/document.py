"""A YAML document that remembers where everything stands, so that an error can say so.

Scalars follow YAML 1.2's core schema: `no` and `1:30` are text, `0o17` is octal, and the last of two
equal keys is an error, not a silent winner.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
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
    """Every problem of a document at once, in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Document:
    """One parsed YAML document: `data` is plain Python, `position` finds any part of it."""

    def __init__(self, file: str, root: yaml.Node | None) -> None:
        self.file = file
        self.root = root
        self.data: Any = None if root is None else _plain(root)

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

    def text_position(self, path: Path, offset: int) -> tuple[int, int]:
        """Where character `offset` of a one-line plain scalar stands; of others, the start.

        A quoted scalar's text starts one column later, unless it holds escapes.
        """
        node, _ = self._find(path)
        line, column = self.position(path)
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            return line, column
        if node.start_mark.line != node.end_mark.line:
            return line, column
        return line, column + offset + (1 if node.style in ("'", '"') else 0)

    def _find(self, path: Path) -> tuple[yaml.Node | None, yaml.Node | None]:
        node, key_node = self.root, None
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            key_node, node = found
        return node, key_node


def parse(text: str, file: str) -> Document:
    """The first document of `text`. Raises InvalidDocument for what is not YAML."""
    try:
        loader = Loader(text)
        try:
            root = loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidDocument([_syntax_problem(file, error)]) from None
    problems = _duplicates(file, root)
    if problems:
        raise InvalidDocument(problems)
    try:
        return Document(file, root)
    except RecursionError as error:  # an alias that contains itself
        raise InvalidDocument([_syntax_problem(file, error)]) from None


def validate(model: type[M], document: Document) -> M:
    """`document` as `model`. Raises InvalidDocument with every problem, placed and explained."""
    data = {} if document.data is None else document.data
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidDocument(
            _placed(document, model, cast(Mapping[str, Any], one)) for one in error.errors()
        ) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` when a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _syntax_problem(file: str, error: Exception) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(file, 1, 1, "nested too deeply to read; flatten it")
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(file, 1, 1, f"not YAML: {str(error).splitlines()[0]}")
    mark = error.problem_mark or error.context_mark
    what = ", ".join(filter(None, (error.context, error.problem)))
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(file, line, column, f"not YAML: {what}")


def _duplicates(file: str, root: yaml.Node | None) -> list[Problem]:
    found: list[Problem] = []
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
            found.extend(_repeated_keys(file, node))
            pending.extend(value for _, value in node.value)
    return found


def _repeated_keys(file: str, node: yaml.MappingNode) -> Iterable[Problem]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        name, mark = str(key.value), key.start_mark
        if name in first and name != "<<":
            message = f'key "{name}" stands twice, first in line {first[name]}; remove one'
            yield Problem(file, mark.line + 1, mark.column + 1, message)
        first.setdefault(name, mark.line + 1)


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    merged: dict[Any, Any] = {}
    for key, value in node.value:
        if key.value == "<<" and key.style is None:
            merged = {**_merge_source(value), **merged}
        else:
            merged[str(key.value)] = _plain(value)
    return merged


def _merge_source(node: yaml.Node) -> dict[Any, Any]:
    sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
    merged: dict[Any, Any] = {}
    for source in reversed(sources):
        plain = _plain(source)
        merged.update(plain if isinstance(plain, dict) else {})
    return merged


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.style is not None or node.tag == "!":
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(key.value) == str(step):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None


def _placed(document: Document, model: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    path = _real_path(document, error["loc"])
    dotted = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _siblings(model, path[:-1]))
        return document.problem(path, f'unknown key "{dotted}"{hint}', key=True)
    if error["type"] == "missing":
        return document.problem(path[:-1], f'"{dotted}" is missing; add it')
    message = str(error["msg"]).removeprefix("Value error, ")
    return document.problem(path, f"{dotted}: {message}" if dotted else message)


def _real_path(document: Document, loc: Sequence[str | int]) -> Path:
    """pydantic puts the tags of unions into a location; keep the steps that the file has."""
    path: list[str | int] = []
    node = document.root
    for step in loc:
        found = _child(node, step)
        if found is not None:
            path.append(step)
            node = found[1]
    last = loc[-1] if loc else None
    if last is not None and (not path or path[-1] != last) and isinstance(last, str | int):
        path.append(last)
    return tuple(path)


def _siblings(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the model knows at `path`, through lists, dicts, unions and optionals."""
    options: list[Any] = [model]
    for step in path:
        options = [inner for kind in options for inner in _inner_types(kind, step)]
    known: list[str] = []
    for kind in options:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known += [field.alias or name for name, field in kind.model_fields.items()]
    return known


def _inner_types(kind: Any, step: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if step in (name, field.alias):
                return _flat(field.annotation)
        return []
    arguments = getattr(kind, "__args__", ())
    return [inner for argument in arguments for inner in _flat(argument)]


def _flat(kind: Any) -> list[Any]:
    """The members of a union (Annotated taken off); a kind that is no union alone."""
    origin = getattr(kind, "__origin__", None)
    if hasattr(kind, "__metadata__"):
        return _flat(origin)
    if origin in (list, dict, tuple) or isinstance(kind, type) or not hasattr(kind, "__args__"):
        return [kind]
    return [inner for argument in kind.__args__ for inner in _flat(argument)]
