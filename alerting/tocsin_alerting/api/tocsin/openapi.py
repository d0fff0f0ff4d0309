"""`/api/v1/openapi.json`: the API as an OpenAPI 3.1 document, for generators of clients.

The files of `api/openapi` say what an operation takes and gives. Added here is what all of them
share: `data` is what stands in Prometheus's envelope, `answer` stands alone, `body` is JSON and
`form` the parameters of a form; a parameter that is a name alone, and a `$ref` that is one, is a
component; an object has all of its fields unless `required` says which. Each operation's role is
the one of its route.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import json_response
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_exporter.threads import in_thread

PATH = "/api/v1/openapi.json"
PARTS = ("incidents", "people", "samples", "agent", "alertmanager")
_METHODS = {"get": "GET", "post": "POST", "put": "PUT", "delete": "DELETE"}
_FOLDER = files("tocsin_alerting.api") / "openapi"
_ALERTMANAGER_ERROR = {
    "description": "A text, or a code and a message.",
    "content": {"application/json": {"schema": {}}},
}
_ERROR = {
    "description": "What is wrong.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def routes(served: Sequence[Route]) -> list[Route]:
    """The document of `served` and of itself. It is made at the first request, off the loop."""
    made: list[dict[str, Any]] = []

    async def openapi(request: Request) -> Response:
        if not made:
            made.append(await in_thread(lambda: document([*served, own])))
        return json_response(made[0])

    own = get_route(PATH, openapi, any_origin=True)
    return [own]


def document(served: Sequence[Route]) -> dict[str, Any]:
    """Raises KeyError where an operation is described that nothing serves."""
    described = _read("base")
    described["info"]["version"] = version("tocsin")
    components = described["components"]
    described["paths"] = paths = {}
    roles = {_path(route.path): route for route in served if isinstance(route, RoleRoute)}
    for part in map(_read, PARTS):
        components["schemas"] |= part["schemas"]
        for path, methods in part["paths"].items():
            paths[path] = {
                method: _operation(operation, part["tag"], roles[path].needed(_METHODS[method]))
                for method, operation in methods.items()
            }
    components["schemas"] = {name: _schema(of) for name, of in components["schemas"].items()}
    return dict(described)


def _read(part: str) -> dict[str, Any]:
    text = (_FOLDER / f"{part}.yml").read_text("utf-8")
    return dict(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _path(pattern: str) -> str:
    """As OpenAPI writes it: without the kinds of its parameters."""
    return pattern.replace(":path}", "}")


def _operation(described: Mapping[str, Any], tag: str, role: Role) -> dict[str, Any]:
    operation = {
        "operationId": described["operationId"],
        "summary": described["summary"],
        "tags": [described.get("tag", tag)],
        "x-role": role.name.lower(),
        "security": [{}] if role <= Role.METRICS else [{"bearer": []}, {"basic": []}],
        "parameters": [_parameter(each) for each in described.get("parameters", ())],
        "responses": _responses(described),
    }
    if body := _request_body(described):
        operation["requestBody"] = body
    return operation


def _parameter(described: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(described, str):
        return {"$ref": f"#/components/parameters/{described}"}
    return {**described, "schema": _schema(described["schema"])}


def _request_body(described: Mapping[str, Any]) -> dict[str, Any] | None:
    if "body" in described:
        schema = _schema(described["body"])
        return {"required": False, "content": {"application/json": {"schema": schema}}}
    if "form" in described:
        content = {"application/x-www-form-urlencoded": {"schema": _form(described["form"])}}
        return {"required": True, "content": content}
    return _schema(described["requestBody"]) if "requestBody" in described else None


def _form(parameters: Sequence[str | Mapping[str, Any]]) -> dict[str, Any]:
    """Of parameters that stand in a query otherwise."""
    fields = [each for each in parameters if not isinstance(each, str)]
    schemas = {each["name"]: _schema(each["schema"]) for each in fields}
    if "match" in parameters:
        schemas["match[]"] = {"type": "array", "items": {"type": "string"}}
    form: dict[str, Any] = {"type": "object", "properties": schemas}
    needed = [each["name"] for each in fields if each.get("required")]
    return {**form, "required": needed} if needed else form


def _responses(described: Mapping[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = _schema(described.get("responses", {}))
    if "answer" in described or described.get("tag") == "alertmanager":
        responses.setdefault("default", _ALERTMANAGER_ERROR)
    if "answer" in described:
        responses["200"] = _json(_schema(described["answer"]))
    if "data" in described:
        responses["200"] = _json(_enveloped(_schema(described["data"])))
        responses["200"]["content"] |= described.get("content", {})
        responses["default"] = _ERROR
    return responses


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _enveloped(data: Mapping[str, Any]) -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "required": ["status", "data"],
        "properties": {
            "status": {"const": "success", "type": "string"},
            "data": data,
            "warnings": texts,
            "infos": texts,
        },
    }


def _schema(described: Any) -> Any:
    """With whole references and with the fields that an object always has."""
    if isinstance(described, Mapping):
        return dict(_entries(described))
    return [_schema(each) for each in described] if isinstance(described, list) else described


def _entries(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    fields = described.get("properties")
    if isinstance(fields, Mapping):
        yield "type", "object"
        if required := described.get("required", list(fields)):
            yield "required", required
    for name, value in described.items():
        if name == "$ref":
            yield name, f"#/components/schemas/{value}"
        elif name != "required" or not isinstance(fields, Mapping):
            yield name, _schema(value)
