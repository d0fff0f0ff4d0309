"""One request to an API over a real socket, whoever serves it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def data(self) -> Any:
        return self.body["data"]


def ask(
    url: str,
    path: str,
    pairs: Pairs = (),
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """`/api/v1/<path>` below `url`; a POST carries the pairs as a form, all others in the URL."""
    form = urlencode(pairs)
    target = f"{url}/api/v1/{path}" + (f"?{form}" if form and method != "POST" else "")
    data = form.encode() if method == "POST" else None
    request = Request(target, data, dict(headers or {}), method=method)
    try:
        with urlopen(request, timeout=20) as answer:
            return _answer(answer)
    except HTTPError as error:
        with error:
            return _answer(error)


def _answer(answer: Any) -> Answer:
    names = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status, names, answer.read())
