"""The agent's HTTP API as the command line uses it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

FAILED, USAGE, LINT, UNREACHABLE = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Agent:
    """Where the agent is; `token` is sent with what changes something."""

    url: str
    timeout: float
    token: str = ""

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The `data` of the answer. Ends the program with a message when there is none."""
        return self._ask("GET", path, params=parameters)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        from tocsin_alerting.http import httpx  # costs 90 ms, which `--help` need not pay

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = self.url.rstrip("/") + path
        try:
            with httpx.Client(timeout=self.timeout, trust_env=False, headers=headers) as client:
                response = client.request(method, url, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            unreachable(f"no answer from the agent at {self.url}: {error}")
        return _data(response.status_code, response.text, self.url)


def _data(status: int, text: str, url: str) -> Any:
    try:
        answer = json.loads(text)
    except ValueError:
        unreachable(f"what answers at {url} is not a Tocsin agent (HTTP {status}, no JSON)")
    if not isinstance(answer, dict) or answer.get("status") != "success":
        fail(answer.get("error", text) if isinstance(answer, dict) else text)
    for warning in answer.get("warnings", []):
        print(f"warning: {warning}", file=sys.stderr)
    return answer["data"]


def fail(message: str) -> NoReturn:
    print(f"alertctl: {message}", file=sys.stderr)
    raise SystemExit(FAILED)


def unreachable(message: str) -> NoReturn:
    print(f"alertctl: {message}; is it running? Name it with --url", file=sys.stderr)
    raise SystemExit(UNREACHABLE)
