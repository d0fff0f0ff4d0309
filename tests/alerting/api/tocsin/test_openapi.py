"""The OpenAPI document: valid, and neither more nor less than what is served."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from support.wired_agent import wired_agent
from tocsin_alerting.api.http.roles import RoleRoute
from tocsin_alerting.api.tocsin.openapi import PATH, document, routes

QUIETLY = {"HEAD", "OPTIONS"}
CONFIG = 'engines: [{url: "http://127.0.0.1:9"}]\nrule_files: []\n'


@pytest.fixture
async def served(tmp_path: Path) -> Any:
    with wired_agent(tmp_path, CONFIG) as app:
        await app.start()
        yield app.routes()
        await app.close()


def _nothing(value: Any, place: str = "") -> Iterator[str]:
    """Keys without a value: YAML makes one of what stands behind a comma."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        if inner is None:
            yield f"{place}/{key}"
        elif isinstance(inner, dict | list):
            yield from _nothing(inner, f"{place}/{key}")


async def test_it_is_a_valid_document(served: list[RoleRoute]) -> None:
    made = document(served)
    OpenAPIV31SpecValidator(made).validate()
    assert list(_nothing(made)) == []
    ids = [
        operation["operationId"]
        for methods in made["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(ids)) == len(ids) > 60


async def test_every_route_is_in_it_with_its_methods_and_role(served: list[RoleRoute]) -> None:
    by_path = {route.path.replace(":path}", "}"): route for route in served}
    described = document(served)["paths"]
    assert set(described) == set(by_path)
    for path, methods in described.items():
        for method, operation in methods.items():
            role = by_path[path].needed(method.upper())
            assert operation["x-role"] == role.name.lower(), (path, method)


async def test_every_method_is_in_it(served: list[RoleRoute]) -> None:
    from support.api_client import api_client

    described = document(served)["paths"]
    async with api_client(served) as client:
        for route in served:
            refused = await client.request("BREW", re.sub(r"\{[^}]*\}", "1", route.path))
            allowed = set(re.split(r",\s*", refused.headers["allow"])) - QUIETLY
            methods = {name.upper() for name in described[route.path.replace(":path}", "}")]}
            assert methods == allowed, route.path


async def test_parameters_of_a_path_are_described(served: list[RoleRoute]) -> None:
    made = document(served)
    shared = made["components"]["parameters"]
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            given = [
                shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
                for each in operation["parameters"]
            ]
            named = {each["name"] for each in given if each["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path)), (method, path)


def test_what_nothing_serves_is_not_described() -> None:
    own: list[Route] = routes([])
    assert [route.path for route in own] == [PATH]
    with pytest.raises(KeyError):
        document(own)
