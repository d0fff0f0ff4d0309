"""The agent's HTTP API as the command line uses it."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from tocsin_alerting.cli.reach import Reach
from tocsin_alerting.local.agent_socket import answers, candidates
from tocsin_exporter.files import MOST_SECRET_BYTES, file_bytes

FAILED, USAGE, LINT, UNREACHABLE = 1, 2, 3, 4
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AgentClient:
    """Where the agent is: at a URL, or behind a Unix socket of this machine, where it needs no
    token; `token` is sent with what changes something. `reach` is for a URL."""

    url: str
    timeout: float
    token: str = field(default="", repr=False)
    unix_socket: Path | None = None
    reach: Reach = Reach()

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
        """The same for what changes something, with our user for an agent that knows no better."""
        answered = self.ask("POST", path, json={**body, "user": user_name()})
        with self.understood():
            yield self._data(answered)

    def ask(self, method: str, path: str, **content: Any) -> tuple[int, str]:
        """The status and the text of an answer. Ends the program when there is none."""
        from tocsin_alerting.http import read_text_now

        with self._answered(method, path, {"Accept-Encoding": "gzip"}, **content) as response:
            clock = time.monotonic  # noqa: TID251  (a person waits)
            text = read_text_now(response, _MOST_BYTES, self.timeout, clock)
            return response.status_code, text

    def ask_bytes(
        self, path: str, body: bytes, headers: Mapping[str, str], most_bytes: int
    ) -> tuple[int, bytes]:
        """The same with bytes both ways, as they come; an answer that is longer than that is none
        (status 413)."""
        from tocsin_alerting.http import TooLarge, read_bytes_now

        with self._answered("POST", path, headers, content=body) as response:
            try:
                return response.status_code, read_bytes_now(response, most_bytes)
            except TooLarge:
                return 413, b""

    @contextmanager
    def _answered(
        self, method: str, path: str, headers: Mapping[str, str], **content: Any
    ) -> Iterator[Any]:
        """The answer, while it comes. Ends the program when there is none."""
        # Costs 90 ms, which `--help` need not pay.
        from tocsin_alerting.http import BadAnswer, TooLarge, certificate_refused, error_text, httpx

        token = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = self.url.rstrip("/") + path
        how: dict[str, Any] = {
            "timeout": self.timeout,
            "trust_env": False,
            "headers": {**headers, **token},
        }
        if self.unix_socket:
            how["transport"] = httpx.HTTPTransport(uds=str(self.unix_socket))
        else:
            how["auth"] = self.reach.login()
            how["verify"] = self.reach.context() if url.startswith("https:") else False
        try:
            with httpx.Client(**how) as client, client.stream(method, url, **content) as response:
                yield response
        except TooLarge as error:
            fail(f"{self._place}: {error}; ask for fewer series or a shorter range")
        except BadAnswer as error:
            self._stranger(str(error))
        except TimeoutError as error:
            unreachable(f"incomplete response from the agent at {self._place}: {error}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = error_text(error)
            if certificate_refused(error):
                why = f"its certificate is not believed ({why}); name its authority by --ca-file"
            unreachable(f"no response from the agent at {self._place}: {why}")

    @property
    def _place(self) -> str:
        return str(self.unix_socket or self.url)

    def _data(self, answered: tuple[int, str], explained: Callable[[str], str] = str) -> Any:
        status, text = answered
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            if "HTTP request to an HTTPS server" in text:
                fail(f"the agent at {self._place} speaks https; write it in --url")
            self._stranger(f"HTTP {status}, not JSON")
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
            self._stranger(f"unexpected response: {type(error).__name__} {error}")

    def _stranger(self, why: str) -> NoReturn:
        unreachable(f"what answers at {self._place} is not a Tocsin agent ({why})")


def new_client(
    context: click.Context, url: str, token_file: Path | None, timeout: float, reach: Reach
) -> AgentClient:
    """By the options of `alertctl`, whose `context` says whether the URL was given."""
    reach.check()
    if token_file is not None and reach.username is not None:
        raise click.UsageError("--token-file and --username are two ways; give one of them")
    given = context.get_parameter_source("url") is not ParameterSource.DEFAULT
    socket = None if given else next(filter(answers, candidates(os.environ)), None)
    token = _token(token_file) if token_file else ""
    return AgentClient(_http(url), timeout, token, socket, reach)


def _http(url: str) -> str:
    """`box:4911` is what people write."""
    return url if "://" in url or not url else f"http://{url}"


def _token(file: Path) -> str:
    try:
        token = file_bytes(file, MOST_SECRET_BYTES).decode(errors="replace").strip()
    except OSError as error:
        why = f"cannot read {file}: {error.strerror}"
        raise click.BadParameter(why, param_hint="--token-file") from None
    if not token or not token.isascii() or not token.isprintable():
        raise click.BadParameter(
            f"{file} holds no token: one line of printable ASCII", param_hint="--token-file"
        )
    return token


def user_name() -> str:
    """Who does something, where nobody says it."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return "somebody"


def fail(message: str) -> NoReturn:
    print(f"alertctl: {message}", file=sys.stderr)
    raise SystemExit(FAILED)


def unreachable(message: str) -> NoReturn:
    print(f"alertctl: {message}; is it running? Set its address with --url", file=sys.stderr)
    raise SystemExit(UNREACHABLE)
