"""The request bodies. Ranges are checked here; what is known but not offered is refused aloud."""

from __future__ import annotations

import secrets
from dataclasses import replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tocsin_inference.errors import Invalid
from tocsin_inference.generation import Ask
from tocsin_inference.sampling import Sampling
from tocsin_inference.worker import Worker

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
TopK = Annotated[int, Field(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1)]
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


class StreamOptions(BaseModel):
    """`stream_options` of OpenAI."""

    include_usage: bool = False


class OpenAIBody(BaseModel):
    """What chat and plain completions share. Fields that are not listed are ignored, as elsewhere;
    `model` is accepted and not compared: one worker serves one model."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    max_tokens: Limit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK = 0
    seed: int | None = None
    stop: str | list[str] | None = None
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
                raise Invalid(f"{name}={value!r} is not supported by this worker", name)

    def ask(self, worker: Worker, limit: int | None) -> Ask:
        """The parameters with the worker's defaults filled in. Raises Invalid."""
        self.refuse_what_is_not_offered()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stop) > 16:
            raise Invalid("at most 16 stop strings", "stop")
        how = ask(worker, limit, self.temperature, self.top_p, self.top_k, self.seed, stop)
        return replace(how, ignore_eos=self.ignore_eos)


class Part(BaseModel):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation. `developer` is OpenAI's newer name of `system`, which is the one
    that chat templates know; there is no `tool`, since tools are not offered."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> dict[str, str]:
        """As chat templates want it."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return {"role": role, "content": self.content}
        return {"role": role, "content": "".join(part.text for part in self.content)}


class ChatBody(OpenAIBody):
    """`POST /v1/chat/completions`"""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Limit | None = None


class CompletionBody(OpenAIBody):
    """`POST /v1/completions`: prompts as text or as token ids."""

    prompt: str | list[str] | list[int] | list[list[int]]

    def prompts(self) -> list[str] | list[list[int]]:
        """One entry a prompt."""
        given: Any = self.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]
        return list(given)


class OwnBody(BaseModel):
    """A body of our own endpoints: a key that is not listed is a mistake, and is answered so."""

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, given: Any) -> Any:
        known = list(cls.model_fields)
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                said = {"key": repr(key), "hint": hint}
                raise PydanticCustomError("unknown_key", "unknown key {key}: {hint}", said)
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

    prompts: Annotated[list[Text], Field(min_length=1, max_length=1024)]
    max_length: Limit | None = None
    temperature: Temperature | None = None


class ThinkingBody(OwnBody):
    """`POST /thinking`: `thinking_depth` is the number of reasoning passes before the answer."""

    question: Text
    context: str = ""
    thinking_depth: Annotated[int, Field(ge=1, le=8)] = 3
    include_reasoning: bool = True


def ask(
    worker: Worker,
    limit: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int = 0,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
) -> Ask:
    """An Ask from what a body may leave out."""
    settings = worker.settings
    sampling = Sampling(
        temperature=settings.default_temperature if temperature is None else temperature,
        top_p=settings.default_top_p if top_p is None else top_p,
        top_k=top_k,
        seed=secrets.randbelow(_SEEDS) if seed is None else seed % _SEEDS,
    )
    return Ask(sampling, limit, stop, worker.deadline())
