"""What the answers of OpenAI-compatible engines say: text, why it ended, and how many tokens.

One table for the APIs that engines have: OpenAI's chat, completions and responses, Ollama's own
(docs/api.md), llama.cpp's /completion (tools/server/README.md), Anthropic's messages, and TGI's
/generate_stream. A stream is read line by line as it comes; nothing of it is kept but its text,
for as long as the request lasts, and of that no more than a bound.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

MOST_BODY_BYTES = 1 << 20  # of a request or an answer that is looked at
_MOST_LINE_BYTES = 1 << 20
_GENERATING = (
    *("/chat/completions", "/completions", "/responses", "/messages"),
    *("/api/chat", "/api/generate", "/completion", "/infill", "/generate", "/generate_stream"),
)

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants. `json`: its answer is to be JSON."""

    model: str = ""
    json: bool = False
    prompt: str = ""
    max_tokens: int | None = None


@dataclass(slots=True)
class Said:
    """What one event or a whole answer says; None and "" for what it does not."""

    text: str = ""
    besides: str = ""  # reasoning and calls of tools: tokens, and no text for the reader
    finish: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    error: str = ""  # its type
    request_id: str = ""


@dataclass(slots=True)
class Output:
    """All that an answer has said, its text in pieces."""

    pieces: list[str] = field(default_factory=list)
    size: int = 0
    has_besides: bool = False
    finish: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    error: str = ""
    request_id: str = ""
    whole: bool = True  # whether all of it could be read

    def add(self, said: Said) -> None:
        if said.text:
            self.size += len(said.text)
            if self.size <= MOST_BODY_BYTES:
                self.pieces.append(said.text)
            else:
                self.whole = False
        self.has_besides = self.has_besides or bool(said.besides)
        self.finish = said.finish or self.finish
        self.model = said.model or self.model
        self.error = said.error or self.error
        self.request_id = said.request_id or self.request_id
        if said.prompt_tokens is not None:
            self.prompt_tokens = said.prompt_tokens
        if said.generated_tokens is not None:
            self.generated_tokens = said.generated_tokens

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def generates(method: str, path: str) -> bool:
    """Whether a request asks for tokens."""
    return method == "POST" and path.rstrip("/").endswith(_GENERATING)


def asked(body: bytes) -> Asked:
    """What a request's body wants; nothing, if it is no JSON object."""
    document = _document(body)
    form = _mapping(document.get("response_format"))
    ollama = document.get("format")
    most = document.get("max_completion_tokens", document.get("max_tokens"))
    return Asked(
        model=_text(document.get("model")),
        json=form.get("type") in ("json_object", "json_schema") or bool(ollama),
        prompt=_prompt(document),
        max_tokens=most if isinstance(most, int) and not isinstance(most, bool) else None,
    )


def _prompt(document: Document) -> str:
    """The user's last words."""
    messages = document.get("messages")
    if isinstance(messages, list):
        words = [m.get("content") for m in messages if _mapping(m).get("role") == "user"]
        return _parts_text(words[-1]) if words else ""
    return _text(document.get("prompt"))


def _parts_text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(_text(_mapping(part).get("text")) for part in content)
    return _text(content)


def said(document: Document) -> Said:
    """What one JSON object of an answer says."""
    found = Said(model=_text(document.get("model")), request_id=_text(document.get("id")))
    for keys, read in _READERS:
        if not keys.isdisjoint(document):
            read(document, found)
    return found


def _read_choices(document: Document, found: Said) -> None:
    """OpenAI's chat and completions, streamed or not. Several choices are read as one text."""
    choices = document.get("choices")
    for choice in map(_mapping, choices if isinstance(choices, list) else ()):
        message = _mapping(choice.get("delta")) or _mapping(choice.get("message"))
        found.text += _text(message.get("content")) or _text(choice.get("text"))
        found.besides += _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
        if message.get("tool_calls") or message.get("function_call"):
            found.besides += "()"
        found.finish = _text(choice.get("finish_reason")) or found.finish


def _read_usage(document: Document, found: Said) -> None:
    for holder in (document, document.get("response"), document.get("message")):
        if not isinstance(holder, dict):
            continue
        found.model = found.model or _text(holder.get("model"))
        found.request_id = found.request_id or _text(holder.get("id"))
        usage = holder.get("usage")
        if not isinstance(usage, dict):
            continue
        prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
        generated = _count(usage.get("completion_tokens", usage.get("output_tokens")))
        found.prompt_tokens = found.prompt_tokens if prompt is None else prompt
        found.generated_tokens = found.generated_tokens if generated is None else generated


def _read_timings(document: Document, found: Said) -> None:
    """llama.cpp has them on the last event of a stream, whether or not usage was asked for."""
    timings = _mapping(document.get("timings"))
    fresh, cached = _count(timings.get("prompt_n")), _count(timings.get("cache_n"))
    if found.generated_tokens is None:
        found.generated_tokens = _count(timings.get("predicted_n"))
    if found.prompt_tokens is None and fresh is not None:
        found.prompt_tokens = fresh + (cached or 0)


def _read_ollama(document: Document, found: Said) -> None:
    if "done" not in document:
        return
    message = _mapping(document.get("message"))
    found.text += _text(message.get("content")) or _text(document.get("response"))
    found.besides += _text(message.get("thinking")) or _text(document.get("thinking"))
    if message.get("tool_calls"):
        found.besides += "()"
    if document.get("done"):
        found.finish = _text(document.get("done_reason")) or "stop"
        found.generated_tokens = _count(document.get("eval_count"))
        found.prompt_tokens = _count(document.get("prompt_eval_count"))


def _read_llamacpp(document: Document, found: Said) -> None:
    if "content" not in document or "stop" not in document:
        return
    found.text += _text(document.get("content"))
    if document.get("stop") is True:
        limited = document.get("stop_type") == "limit" or document.get("stopped_limit") is True
        found.finish = "length" if limited else "stop"
        found.generated_tokens = _count(document.get("tokens_predicted"))
        found.prompt_tokens = _count(document.get("tokens_evaluated"))


def _read_typed(document: Document, found: Said) -> None:
    """Anthropic's messages and OpenAI's responses: each event has a type."""
    kind, delta = document.get("type"), document.get("delta")
    if kind == "content_block_delta":
        found.text += _text(_mapping(delta).get("text"))
        thinking = _mapping(delta).get("thinking") or _mapping(delta).get("partial_json")
        found.besides += _text(thinking)
    elif kind == "response.output_text.delta":
        found.text += _text(delta)
    elif kind in ("response.reasoning_text.delta", "response.function_call_arguments.delta"):
        found.besides += _text(delta)
    elif kind == "message_delta":
        found.finish = _text(_mapping(delta).get("stop_reason"))
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        found.finish = {"response.incomplete": "length"}.get(str(kind), "stop")
    elif kind == "message" and isinstance(document.get("content"), list):
        found.text += _parts_text(document["content"])
        found.finish = _text(document.get("stop_reason"))
    if document.get("object") == "response" and isinstance(document.get("output"), list):
        found.text += "".join(
            _parts_text(_mapping(item).get("content")) for item in document["output"]
        )
        found.finish = _text(document.get("status"))


def _read_tgi(document: Document, found: Said) -> None:
    token, details = _mapping(document.get("token")), _mapping(document.get("details"))
    if token:
        found.text += "" if token.get("special") else _text(token.get("text"))
    elif "generated_text" in document:
        found.text += _text(document["generated_text"])
    if details:
        found.finish = _text(details.get("finish_reason"))
        found.generated_tokens = _count(details.get("generated_tokens"))


def _read_error(document: Document, found: Said) -> None:
    error = document.get("error")
    if error:
        found.error = _text(_mapping(error).get("type")) or "error"


# A reader is asked where one of its keys is there: most events have `choices` alone.
_READERS: Sequence[tuple[frozenset[str], Callable[[Document, Said], None]]] = (
    (frozenset(("choices",)), _read_choices),
    (frozenset(("usage", "response", "message")), _read_usage),
    (frozenset(("done",)), _read_ollama),
    (frozenset(("stop",)), _read_llamacpp),
    (frozenset(("timings",)), _read_timings),
    (frozenset(("type", "output")), _read_typed),
    (frozenset(("token", "details", "generated_text")), _read_tgi),
    (frozenset(("error",)), _read_error),
)


class EventReader:
    """A stream of events or of lines of JSON, in whatever pieces it comes."""

    def __init__(self, prefix: bytes) -> None:
        self.whole = True
        self._prefix, self._rest, self._skipping = prefix, b"", False

    def read(self, content: bytes) -> Iterator[Said]:
        """What the events say that this piece completes."""
        lines = (self._rest + content).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line.startswith(self._prefix):
                yield from _event(line[len(self._prefix) :])
        if len(self._rest) > _MOST_LINE_BYTES:
            self._rest, self._skipping, self.whole = b"", True, False

    def last(self) -> Iterator[Said]:
        """What stands in a last line without an end."""
        if self._rest.startswith(self._prefix):
            yield from _event(self._rest[len(self._prefix) :])


def _event(data: bytes) -> Iterator[Said]:
    document = _document(data)
    if document:
        yield said(document)


def event_reader(media: bytes) -> EventReader | None:
    """For an answer of this Content-Type; None for one that is no stream."""
    kind = media.partition(b";")[0].strip().lower()
    if kind == b"text/event-stream":
        return EventReader(b"data:")
    if kind in (b"application/x-ndjson", b"application/jsonl"):
        return EventReader(b"")
    return None


def whole(body: bytes) -> Said:
    """What an answer says that is one JSON object."""
    return said(_document(body))


def _document(data: bytes) -> Document:
    try:
        return _mapping(orjson.loads(data))
    except orjson.JSONDecodeError:
        return {}


def _mapping(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
