"""What an engine's answers say, whichever engine it is: pure, and never stopped by garbage."""

import json
import re
from dataclasses import dataclass

from tocsin_exporter.collectors.engine_dialects import Dialect, recognise
from tocsin_exporter.collectors.engine_text import lines
from tocsin_exporter.engine_access import Reply

METRICS_PATHS = ("/metrics", "/prometheus/metrics")
_NO_PAGE = (404, 405, 501)
_NO_KEY = (401, 403)
_GGUF = re.compile(r"(-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)
_MODEL = re.compile(r'[{,]model_name="([^"\\\n]+)"')


@dataclass(frozen=True, slots=True)
class EnginePage:
    """A metrics page: `text` is empty for what cannot be one, `dialect` None when unknown."""

    status: int
    text: str = ""
    dialect: Dialect | None = None

    @property
    def missing(self) -> bool:
        return self.status in _NO_PAGE

    @property
    def refused(self) -> bool:
        return not 200 <= self.status < 300

    @property
    def telling(self) -> int:
        """The larger, the better it says why there are no metrics: a refusal says what to do."""
        if self.missing:
            return 0
        return 3 if self.status in _NO_KEY else 2 if self.refused else 1


def page(reply: Reply) -> EnginePage:
    """The metrics page in an answer; some builds of llama.cpp put it into JSON's quotes."""
    if not reply.ok:
        return EnginePage(reply.status)
    text = reply.text
    if text.lstrip()[:1] in ("<", "[", "{"):
        return EnginePage(reply.status)
    if text.lstrip()[:1] == '"':
        quoted = _json(text)
        text = quoted if isinstance(quoted, str) else text
    return EnginePage(reply.status, text, recognise(text))


def has_samples(text: str) -> bool:
    """Whether it is a metrics page of somebody, in the Prometheus text format."""
    return next(lines(text), None) is not None


def first_model(text: str) -> str:
    """The model of the first series of a metrics page that names one."""
    named = (found[1] for found in _MODEL.finditer(text))
    return next((name for name in named if name != "undefined"), "")


def gguf_model(name: str) -> str:
    """llama.cpp goes by the path of its file where it was given no alias."""
    base = re.split(r"[/\\]", name)[-1] if name.lower().endswith(".gguf") else name
    return _GGUF.sub("", base)


def alias(props: Reply) -> str:
    """The model of llama.cpp's `/props`."""
    answer = _json(props.text) if props.ok else None
    if not isinstance(answer, dict):
        return ""
    return gguf_model(str(answer.get("model_alias") or answer.get("model_path") or ""))


def models(reply: Reply) -> list[str] | None:
    """The names in an OpenAI model list; None for what is no such list."""
    listed = _listed(reply)
    if listed is None:
        return None
    return [str(one["id"]) for one in listed if isinstance(one, dict) and one.get("id")]


def owner(reply: Reply) -> str:
    """Who serves the first model of the list: `vllm`, `sglang`, `llamacpp`, or another."""
    first = next(iter(_listed(reply) or ()), None)
    return str(first.get("owned_by", "")) if isinstance(first, dict) else ""


def wants_key(reply: Reply) -> bool:
    """Whether it refuses in OpenAI's words: 401 or 403 with an `error` in JSON."""
    error = _error(reply) if reply.status in _NO_KEY else None
    return isinstance(error, str) or is_openai_error(reply)


def is_openai_error(reply: Reply) -> bool:
    """The whole shape, which a stranger's `{"error": "..."}` does not have."""
    error = _error(reply) if reply.status in _NO_KEY else None
    return isinstance(error, dict) and "message" in error


def is_well(reply: Reply) -> bool:
    """Whether a health page says so: 2xx, and no web page of somebody else."""
    return reply.ok and not reply.text.lstrip().startswith("<")


def version(reply: Reply) -> str:
    answer = _json(reply.text) if reply.ok else None
    return str(answer.get("version", "")) if isinstance(answer, dict) else ""


def _listed(reply: Reply) -> list[object] | None:
    answer = _json(reply.text) if reply.ok else None
    if not isinstance(answer, dict):
        return None
    data = answer.get("data")
    if data is None and answer.get("object") == "list":
        return []  # Ollama without a model
    named = isinstance(data, list) and all(isinstance(one, dict) and "id" in one for one in data)
    return data if isinstance(data, list) and (data or answer.get("object")) and named else None


def _error(reply: Reply) -> object:
    answer = _json(reply.text)
    return answer.get("error") if isinstance(answer, dict) else None


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
