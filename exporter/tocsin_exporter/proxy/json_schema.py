"""A JSON schema as a check of an answer. The library is imported where a schema is used alone."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def schema_check(schema: Mapping[str, Any]) -> Callable[[object], bool]:
    """Whether a document is as the schema wants it, of the draft that `$schema` names, 2020-12
    without one. No reference leads to the network. Raises ValueError for what is no schema.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        raise ValueError(
            f"not a JSON schema{f' at {where}' if where else ''}: {error.message}"
        ) from None
    resource = specification_with(kind.META_SCHEMA["$schema"]).create_resource(schema)
    resolver = REGISTRY.with_resource(resource.id() or "", resource).resolver(resource.id() or "")
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise ValueError(f"$ref {reference!r} leads nowhere; write it into $defs") from None
    validator = kind(dict(schema), registry=REGISTRY)

    def check(document: Any) -> bool:
        return validator.is_valid(document)

    return check


def _references(part: object) -> Iterator[str]:
    """All of them; one that stands below an `$id` of its own is written from the root."""
    if isinstance(part, Mapping):
        reference = part.get("$ref")
        if isinstance(reference, str):
            yield reference
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
