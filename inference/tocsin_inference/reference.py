"""The API reference as one page of HTML, made from the OpenAPI schema.

FastAPI's own page loads its program from a content delivery network, which a machine that is shut
off from the internet cannot reach and others should not be sent to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import orjson

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:1rem;overflow:auto}code{font-size:.9em}"
    "h2{border-top:1px solid #ccc;padding-top:1rem}"
)


def page(schema: Mapping[str, Any]) -> str:
    """HTML for an OpenAPI 3 document."""
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        '<p>The same as data: <a href="/openapi.json">openapi.json</a></p>'
        f"{''.join(_operations(schema))}</body></html>"
    )


def _operations(schema: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(operation.get('summary', ''))}. "
            yield f"{escape(operation.get('description', ''))}</p>"
            yield _body(schema, operation)


def _body(schema: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    name = content["schema"]["$ref"].rsplit("/", 1)[-1]
    shape = schema["components"]["schemas"][name]
    text = orjson.dumps(shape, option=orjson.OPT_INDENT_2).decode()
    return f"<details><summary>Body</summary><pre>{escape(text)}</pre></details>"
