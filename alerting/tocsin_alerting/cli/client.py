"""The agent's HTTP API as the command line uses it."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

FAILED, USAGE, LINT, UNREACHABLE = 1, 2, 3, 4
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AgentClient:
    """Where the agent is: at a URL, or behind a Unix socket of this machine, where it needs no
    token; `token` is sent with what changes something."""

    url: str
    timeout: float
    token: str = field(default="", repr=False)
    unix_socket: Path | None = None

    @contextmanager
    def get(
        self,
        path: str,
        parameters: Mapping[str, str | Sequence[str]] | None = None,
        explained: Callable[[str], str] = str,
    ) -> Iterator[Any]:
        """The `data` of the answer, for a `with` that prints it.

        Ends the program with a message when there is none, or when it is not of the shape that
        the `with` finds in an agent's. `explained` is given the agent's words of what was wrong,
        and may add to them.
        """
        answered = self.ask("GET", path, params=parameters)
        with self.understood():
            yield self._data(answered, explained)

    @contextmanager
    def post(self, path: str, body: Mapping[str, object]) -> Iterator[Any]:
        """The same for what changes something."""
        answered = self.ask("POST", path, json=body)
        with self.understood():
            yield self._data(answered)

    def ask(self, method: str, path: str, **content: Any) -> tuple[int, str]:
        """The status and the text of an answer. Ends the program when there is none."""
        # Costs 90 ms, which `--help` need not pay.
        from tocsin_alerting.http import BadAnswer, TooLarge, httpx, read_text_now

        headers = {"Accept-Encoding": "gzip"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        url = self.url.rstrip("/") + path
        socket = httpx.HTTPTransport(uds=str(self.unix_socket)) if self.unix_socket else None
        try:
            with httpx.Client(
                timeout=self.timeout, trust_env=False, headers=headers, transport=socket
            ) as client:
                with client.stream(method, url, **content) as response:
                    clock = time.monotonic  # noqa: TID251  (a person waits)
                    text = read_text_now(response, _MOST_BYTES, self.timeout, clock)
                    return response.status_code, text
        except TooLarge as error:
            fail(f"{self._place}: {error}; ask for fewer series or a shorter range")
        except BadAnswer as error:
            self._stranger(str(error))
        except TimeoutError as error:
            unreachable(f"no whole answer from the agent at {self._place}: {error}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            unreachable(f"no answer from the agent at {self._place}: {error}")

    @property
    def _place(self) -> str:
        return str(self.unix_socket or self.url)

    def _data(self, answered: tuple[int, str], explained: Callable[[str], str] = str) -> Any:
        status, text = answered
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            self._stranger(f"HTTP {status}, no JSON")
        if answer["status"] != "success":
            fail(explained(str(answer["error"])))
        for kind in ("warning", "info"):
            for message in answer.get(f"{kind}s", []):
                print(f"{kind}: {message}", file=sys.stderr)
        return answer["data"]

    @contextmanager
    def understood(self) -> Iterator[None]:
        """For what is done with an answer after its own `with`: the same end when it is odd."""
        try:
            yield
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            self._stranger(f"its answer has another shape: {type(error).__name__} {error}")

    def _stranger(self, why: str) -> NoReturn:
        unreachable(f"what answers at {self._place} is not a Tocsin agent ({why})")


def fail(message: str) -> NoReturn:
    print(f"alertctl: {message}", file=sys.stderr)
    raise SystemExit(FAILED)


def unreachable(message: str) -> NoReturn:
    print(f"alertctl: {message}; is it running? Name it with --url", file=sys.stderr)
    raise SystemExit(UNREACHABLE)
