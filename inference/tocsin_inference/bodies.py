"""The request bodies. Ranges are checked here; what is known but not offered is refused aloud.

A field that is null counts as left out, as in OpenAI's API, whose clients send all their fields."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from tocsin_inference.errors import Invalid, cut, shown
from tocsin_inference.generation import GenerationRequest
from tocsin_inference.sampling import Sampling
from tocsin_inference.worker import Worker

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
TopK = Annotated[int, Field(ge=-1, le=2**31 - 1)]
Limit = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1)]
# A list says what is wrong with its first bad entry: with all of them it held the loop for seconds.
_LIST = Field(fail_fast=True)
_CONVERSATION = 2048  # messages, and parts of one, as in OpenAI's API
LARGE = 64 << 10  # bytes: less is parsed in milliseconds, and not worth a thread
MOST_VALUES = 1 << 16  # texts, lists and objects of one body; numbers are token ids, and are cheap
_SEEDS = 2**31
# name -> the values that mean "off"; anything else is asked for and not to be had
_NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "tools": (None, []),
    "functions": (None, []),
    "echo": (None, False),
    "suffix": (None, ""),
    "response_format": (None, {"type": "text"}),
}


class Body(BaseModel):
    """Where a field that is null has a default, the default holds."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            key: value
            for key, value in given.items()
            if value is not None or key not in fields or fields[key].is_required()
        }


class StreamOptions(Body):
    """`stream_options` of OpenAI."""

    include_usage: bool = False


class OpenAIBody(Body):
    """What chat and plain completions share. Fields that are not listed are ignored, as elsewhere;
    `model` is accepted and not compared: one worker serves one model."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    max_tokens: Limit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK = 0
    seed: int | None = None
    stop: str | Annotated[list[str], _LIST] | None = None
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def refuse_what_is_not_offered(self) -> None:
        """Raises Invalid for a known field whose effect this worker does not have."""
        for name, value in (self.model_extra or {}).items():
            if value not in _NOT_OFFERED.get(name, (value,)):
                raise Invalid(f"{name}={shown(value)} is not supported by this worker", name)

    def ask(self, worker: Worker, limit: int | None) -> GenerationRequest:
        """The parameters with the worker's defaults filled in. Raises Invalid."""
        self.refuse_what_is_not_offered()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stop) > 16:
            raise Invalid("at most 16 stop strings", "stop")
        if "" in stop:
            raise Invalid("a stop string is empty: leave it out", "stop")
        how = ask(worker, limit, self.temperature, self.top_p, max(self.top_k, 0), self.seed, stop)
        return replace(how, ignore_eos=self.ignore_eos)


class TextPart(BaseModel):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class RefusalPart(BaseModel):
    """What a model said instead, in the content of an assistant's turn."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    """One turn of a conversation. `developer` is OpenAI's newer name of `system`, which is the one
    that chat templates know; there is no `tool`, since tools are not offered."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=_CONVERSATION, fail_fast=True)] | None = (
        None
    )
    tool_calls: list[Any] | None = None
    function_call: Any = None

    @model_validator(mode="after")
    def _only_an_assistant_may_say_nothing(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise PydanticCustomError("no_content", "a {role} message needs content", vars(self))
        return self

    def plain(self) -> dict[str, str]:
        """As chat templates want it. Raises Invalid for a turn that called a tool."""
        if self.tool_calls or self.function_call:
            raise Invalid("tool calls are not supported by this worker", "messages")
        role = "system" if self.role == "developer" else self.role
        if not isinstance(self.content, list):
            return {"role": role, "content": self.content or ""}
        pieces = (p.text if isinstance(p, TextPart) else p.refusal for p in self.content)
        return {"role": role, "content": "".join(pieces)}


class ChatBody(OpenAIBody):
    """`POST /v1/chat/completions`"""

    messages: Annotated[
        list[ChatMessage], Field(min_length=1, max_length=_CONVERSATION, fail_fast=True)
    ]
    max_completion_tokens: Limit | None = None


class CompletionBody(OpenAIBody):
    """`POST /v1/completions`: prompts as text or as token ids."""

    prompt: (
        str
        | Annotated[list[str], _LIST]
        | Annotated[list[int], _LIST]
        | Annotated[list[Annotated[list[int], _LIST]], _LIST]
    )

    def prompts(self) -> list[str] | list[list[int]]:
        """One entry a prompt."""
        given: Any = self.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]
        return list(given)


class OwnBody(Body):
    """A body of our own endpoints: a key that is not listed is a mistake, and is answered so."""

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, given: Any) -> Any:
        known = list(cls.model_fields)
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                near = get_close_matches(key[:100], known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                words = {"key": shown(key), "hint": hint}
                raise PydanticCustomError("unknown_key", "unknown key {key}: {hint}", words)
        return given


class GenerateBody(OwnBody):
    """`POST /generate`: `max_length` is the most tokens to generate."""

    prompt: Text
    max_length: Limit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    do_sample: bool = True


class BatchBody(OwnBody):
    """`POST /batch_generate`"""

    prompts: Annotated[list[Text], Field(min_length=1, fail_fast=True)]
    max_length: Limit | None = None
    temperature: Temperature | None = None


class ThinkingBody(OwnBody):
    """`POST /thinking`: `thinking_depth` is the number of reasoning passes before the answer."""

    question: Text
    context: str = ""
    thinking_depth: Annotated[int, Field(ge=1, le=8)] = 3
    include_reasoning: bool = True


class JsonRoute(APIRoute):
    """A route whose bodies are parsed by `parse`, large ones beside the event loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a request whose `json` is that."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return checked


class _JsonRequest(Request):
    async def json(self) -> Any:
        raw = await self.body()
        if len(raw) <= LARGE:
            return parse(raw)
        worker: Worker = self.app.state.worker
        return await worker.reader.run(lambda: parse(raw))


def parse(raw: bytes) -> Any:
    """The JSON value of a body. Raises ValueError where it is none, HTTPException 400 for more than
    MOST_VALUES values, and for text with half a character in it, wherever in the body it stands.

    JSON can write one half of a surrogate pair (`"\\ud83d"`, an emoji that was cut in two). Python
    takes it for text, and then neither the tokenizer nor the answer can be encoded.
    """
    if b"\0" not in raw and raw.count(b'"') - raw.count(b'\\"') > 2 * MOST_VALUES:
        raise _too_many()  # before a second is spent on it: nobody is answered meanwhile
    body = json.loads(raw)
    halves = not _cannot_hold_halves(raw)
    for count, (place, value) in enumerate(_values(body), 1):
        if count > MOST_VALUES:
            raise _too_many()
        if halves and isinstance(value, str) and _HALF.search(value):
            text = _shown(value[-40:])
            raise HTTPException(
                400, f"{_path(place)}: holds half a character ({text}), not Unicode text"
            )
    return body


def _too_many() -> HTTPException:
    return HTTPException(
        400, f"body: has more than {MOST_VALUES} texts, lists and objects: send fewer"
    )


_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\x00")  # a zero byte: the body is not in UTF-8
_HALF = re.compile("[\ud800-\udfff]")


def _cannot_hold_halves(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")  # as Python's JSON reader does not ask: it lets halves pass
    except UnicodeDecodeError:
        return False
    return _ESCAPED_HALF.search(raw) is None


def _shown(part: object) -> str:
    return cut(part if isinstance(part, str) and not _HALF.search(part) else json.dumps(part))


@dataclass(frozen=True, slots=True)
class _JsonPath:
    """Where a value stands in a body: a key, and the place of what has it."""

    outer: _JsonPath | None
    key: object


def _path(place: _JsonPath | None) -> str:
    keys: list[str] = []
    while place is not None:
        keys.append(_shown(place.key))
        place = place.outer
    return cut(".".join(reversed(keys))) or "body"


def _values(body: Any) -> Iterator[tuple[_JsonPath | None, Any]]:
    """Every text, list and object of a JSON value, keys included; its cost is that of their number,
    however deep they stand."""
    yield None, body
    inside = [_entries(None, body)]
    while inside:
        for place, value in inside[-1]:
            yield place, value
            if not isinstance(value, str):
                inside.append(_entries(place, value))
                break
        else:
            inside.pop()


def _entries(outer: _JsonPath | None, value: Any) -> Iterator[tuple[_JsonPath, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield _JsonPath(outer, key), key
            if isinstance(inner, str | list | dict):
                yield _JsonPath(outer, key), inner
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            if isinstance(inner, str | list | dict):
                yield _JsonPath(outer, i), inner


def ask(
    worker: Worker,
    limit: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int = 0,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
) -> GenerationRequest:
    """An Ask from what a body may leave out."""
    settings = worker.settings
    sampling = Sampling(
        temperature=settings.default_temperature if temperature is None else temperature,
        top_p=settings.default_top_p if top_p is None else top_p,
        top_k=top_k,
        seed=secrets.randbelow(_SEEDS) if seed is None else seed % _SEEDS,
    )
    return GenerationRequest(sampling, limit, stop, worker.deadline())
