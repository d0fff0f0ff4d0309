"""A YAML document as a pydantic model, every problem at its place and in the words of YAML.

It stands apart because pydantic takes a tenth of a second to import, which rule files need not.
"""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tocsin_alerting.yaml_document import (
    MAX_PROBLEMS,
    Document,
    InvalidDocument,
    Path,
    Problem,
    did_you_mean,
)

M = TypeVar("M", bound=BaseModel)
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
_KEY = "[key]"  # pydantic's last step to a key of a mapping that is refused itself


def validate(model: type[M], document: Document) -> M:
    """`document` as `model`. Raises InvalidDocument with every problem, placed and explained."""
    data = {} if document.data is None else document.data
    try:
        return model.model_validate(data)
    except ValidationError as error:
        every = cast(Sequence[Mapping[str, Any]], error.errors(include_url=False))
        shown = (_placed(document, model, problem) for problem in every[:MAX_PROBLEMS])
        raise InvalidDocument(shown, max(0, len(every) - MAX_PROBLEMS)) from None


def _placed(document: Document, model: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    loc = error["loc"]
    of_key = loc[-1:] == (_KEY,)
    path = _real_path(document, loc[:-1] if of_key else loc)
    dotted = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _siblings(model, document.data, path[:-1]))
        return document.problem(path, f'unknown key "{dotted}"{hint}', key=True)
    if error["type"] == "missing":
        return document.problem(path[:-1], f'"{dotted}" is missing; add it')
    message = _error_text(error)
    return document.problem(path, f"{dotted}: {message}" if dotted else message, key=of_key)


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
