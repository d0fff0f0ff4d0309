"""What an engine's answers say, whichever engine it is: pure, and never stopped by garbage."""

import json
import re
from dataclasses import dataclass, replace

from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_dialects import Dialect, recognise
from tocsin_exporter.collectors.engine_text import LONGEST_NAME, EnginePageText
from tocsin_exporter.engine_access import Reply
from tocsin_exporter.http import CUT_OFF, BadAnswer
from tocsin_exporter.slices import SLICE, Work

METRICS_PATHS = ("/metrics", "/prometheus/metrics")
_NO_PAGE = (404, 405, 501)
_NO_KEY = (401, 403)
_WELL = ("ok", "healthy", "true", '"ok"', '"healthy"')
_GGUF = re.compile(r"(-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)
_MODEL = re.compile(r'[{,]model_name="([^"\\\n]+)"')
_BARE = re.compile(r"^(llamacpp:[a-z0-9_]+) ", re.MULTILINE)
_LOOKED_AT = 2_000  # series
_MOST_MODELS = 64
_LONGEST_VERSION = 100
_SPACE = 1_000  # characters before an answer begins
_BLANK = "\ufeff \t\r\n"
_LONGEST_JSON = 1 << 20  # characters: what takes 50 ms to parse at the worst


@dataclass(frozen=True, slots=True)
class EnginePage:
    """What was answered for a metrics page: `text` is the page, `dialect` None when unknown;
    `why` says why an answer cannot be read, and `kind` whose it is if its beginning shows that."""

    status: int
    text: str = ""
    dialect: Dialect | None = None
    why: str = ""
    kind: str = ""

    @property
    def missing(self) -> bool:
        return self.status in _NO_PAGE

    @property
    def refused(self) -> bool:
        return not 200 <= self.status < 300

    @property
    def is_web_page(self) -> bool:
        return self.text[:_SPACE].lstrip(_BLANK)[:1] == "<"

    @property
    def may_be_metrics(self) -> bool:
        """Whether it begins neither as a web page does nor as JSON."""
        return self.text[:_SPACE].lstrip(_BLANK)[:1] not in ("<", "[", "{")

    @property
    def telling(self) -> int:
        """The larger, the better it says why there are no metrics: a refusal says what to do."""
        if self.kind:
            return 4
        if self.missing:
            return 0
        return 3 if self.status in _NO_KEY else 2 if self.refused else 1


def page(reply: Reply) -> Work[EnginePage]:
    """The metrics page in an answer; some builds of llama.cpp put it into JSON's quotes."""
    text = reply.text
    first = text[:_SPACE].lstrip(_BLANK)[:1]
    if not reply.ok or first in ("<", "[", "{"):
        return EnginePage(reply.status, text)
    if first == '"':
        quoted = _json(text)
        text = quoted if isinstance(quoted, str) else text
    dialect = yield from recognise(text)
    if dialect is not None and engine_text.ends_early(text, reply.media, reply.framed):
        return EnginePage(reply.status, text, why=CUT_OFF, kind=dialect.name)
    return EnginePage(reply.status, text, dialect)


def unreadable(error: BadAnswer) -> Work[EnginePage]:
    """A metrics page of which only the beginning could be read."""
    page = EnginePage(200, error.beginning, why=str(error))
    dialect = (yield from recognise(page.text)) if page.may_be_metrics else None
    return replace(page, kind=dialect.name) if dialect is not None else page


def has_samples(page: EnginePage) -> Work[bool]:
    """Whether it is a metrics page of somebody, in the Prometheus text format."""
    if not page.may_be_metrics:
        return False
    lines = yield from engine_text.read(page.text, 1)
    return any(engine_text.series(text) for text in lines.texts)


def first_model(page: EnginePageText) -> Work[str]:
    """The model of the first series of a metrics page that names one."""
    cost = 0
    for text in page.texts[:_LOOKED_AT]:
        cost += len(text)
        if cost > SLICE:
            cost = 0
            yield
        named = (match[1] for match in _MODEL.finditer(text))
        for name in named:
            if name != "undefined" and len(name) <= LONGEST_NAME:
                return name
    return ""


def own_version(page: EnginePageText) -> str:
    """The version that our own worker puts on `llm_engine_info`."""
    about = (text for text in page.texts[:_LOOKED_AT] if text.startswith("llm_engine_info{"))
    parsed = engine_text.series(next(about, ""))
    return parsed[1].get("version", "")[:_LONGEST_VERSION] if parsed else ""


def gguf_model(name: str) -> str:
    """llama.cpp goes by the path of its file where it was given no alias."""
    base = re.split(r"[/\\]", name)[-1] if name.lower().endswith(".gguf") else name
    return _GGUF.sub("", base)


def alias(props: Reply) -> str:
    """The model of llama.cpp's `/props`."""
    answer = _json(props.text) if props.ok else None
    if not isinstance(answer, dict):
        return ""
    name = str(answer.get("model_alias") or answer.get("model_path") or "")
    return gguf_model(name[-LONGEST_NAME:])


def models(reply: Reply) -> list[str] | None:
    """The names in an OpenAI model list; None for what is no such list."""
    listed = _listed(reply)
    if listed is None:
        return None
    names = (str(entry["id"]) for entry in listed if isinstance(entry, dict) and entry.get("id"))
    return [name for name in names if len(name) <= LONGEST_NAME]


def loaded_models(reply: Reply) -> list[str] | None:
    """The models that llama.cpp's router has in memory, of its model list; None for another list.

    One that falls asleep when nobody asks it is left out: to be asked for its metrics keeps it
    awake (llama.cpp#20227).
    """
    entries = [entry for entry in _listed(reply) or () if isinstance(entry, dict)]
    states = {str(e.get("id")): e["status"] for e in entries if isinstance(e.get("status"), dict)}
    if not states:
        return None
    return [
        name
        for name, state in states.items()
        if state.get("value") == "loaded"
        and "--sleep-idle-seconds" not in (state.get("args") or ())
        and len(name) <= LONGEST_NAME
    ]


def of_model(text: str, model: str) -> str:
    """A page of llama.cpp's, which has no labels, with the model's name on each series."""
    quoted = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return _BARE.sub(lambda match: f'{match[1]}{{model_name="{quoted}"}} ', text)


def ollama_models(reply: Reply) -> dict[str, float]:
    """Bytes of memory, of GPUs and of the machine, by each model that Ollama has loaded."""
    answer = _json(reply.text) if reply.ok else None
    listed = answer.get("models") if isinstance(answer, dict) else None
    sizes: dict[str, float] = {}
    for entry in listed[:_MOST_MODELS] if isinstance(listed, list) else ():
        name, size = (entry.get("name"), entry.get("size")) if isinstance(entry, dict) else ("", 0)
        known = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME
        if known and type(size) is int and 0 < size < 2**63:
            sizes[str(name)] = float(size)
    return sizes


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
    """Whether a health page says so as engines do: 2xx with nothing, a word, or JSON's object.

    Many a server answers 200 to whatever it is asked, with a page for people.
    """
    text = reply.text.strip()
    words = text == "" or text.lower() in _WELL
    return reply.ok and (words or (text[:1] == "{" and isinstance(_json(text), dict)))


def version(reply: Reply) -> str:
    answer = _json(reply.text) if reply.ok else None
    return str(answer.get("version", ""))[:_LONGEST_VERSION] if isinstance(answer, dict) else ""


def _listed(reply: Reply) -> list[object] | None:
    answer = _json(reply.text) if reply.ok else None
    if not isinstance(answer, dict):
        return None
    data = answer.get("data")
    if data is None and answer.get("object") == "list":
        return []  # Ollama without a model
    named = isinstance(data, list) and all(
        isinstance(entry, dict) and "id" in entry for entry in data
    )
    return data if isinstance(data, list) and (data or answer.get("object")) and named else None


def _error(reply: Reply) -> object:
    answer = _json(reply.text)
    return answer.get("error") if isinstance(answer, dict) else None


def _json(text: str) -> object:
    """None for what is no JSON. Half of a surrogate pair, which JSON can say and UTF-8 cannot, is
    `?`: no label may hold what neither a page nor the disk can take."""
    try:
        parsed = json.loads(text) if len(text) <= _LONGEST_JSON else None
        if "\\ud" in text or "\\uD" in text:
            return json.loads(json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace"))
        return parsed
    except (ValueError, RecursionError):
        return None
