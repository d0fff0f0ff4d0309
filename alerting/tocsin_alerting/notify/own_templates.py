"""Templates of the operator's own, in place of the bundled ones, and never in the way of a page.

They run in Jinja's sandbox, with bounds: loops, calls, sizes and time. What would cost more than it
may is refused before it is done, for nothing can stop a call that hangs. One that fails in any way
is logged once, counted, and the bundled text goes out.
"""

import json
import logging
import re
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
    select_autoescape,
)
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.lexer import TokenStream
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace, pass_context
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

log = logging.getLogger(__name__)

NAMES = ("subject.txt", "text.txt", "page.html", "line.txt", "chat.txt")
LANGUAGES = ("en", "zh")
BODIES = ".json"  # bodies of webhooks, by whatever name their receivers give
BUNDLED = "bundled/"  # how a template of the operator includes a bundled one

MAX_SECONDS = 0.25
MAX_STEPS = 20_000  # rounds of loops, and calls
MAX_CHARACTERS = 200_000  # of what is made, and of each text on the way
_MAX_RANGE = 1_000
_MAX_NUMBER = 2**63
_MAX_WIDTH = 200
_MAX_FILE_BYTES = 64 << 10
_MAX_FILES = 100
_NAMED = re.compile(r"(?:named|tag|got|unexpected) '([^']+)'")
_WIDE = re.compile(r"%[^a-zA-Z%]*(\*|\d{4,})")
_FILTERS = """abs capitalize count d default dictsort e escape first float int items last length
 list lower map max min reject rejectattr reverse select selectattr sort string title tojson trim
 truncate unique upper urlencode wordcount""".split()
_STRING_METHODS = frozenset(
    """capitalize count endswith find isalpha isdigit isspace lower lstrip partition removeprefix
 removesuffix rfind rpartition rsplit rstrip split splitlines startswith strip swapcase title
 upper""".split()
)
_MAPPING_METHODS = frozenset(("get", "items", "keys", "values"))


class TooMuch(SecurityError):
    """A template asks for more than it may."""


class _Meter:
    """What one rendering has cost so far."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.begin()

    def begin(self) -> None:
        self._steps, self._until = 0, self._monotonic() + MAX_SECONDS

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooMuch(f"more than {MAX_STEPS:,} rounds of loops and calls")
        if self._monotonic() > self._until:
            raise TooMuch(f"no end within {MAX_SECONDS:g} s")


def _sized(size: int) -> None:
    if size > MAX_CHARACTERS:
        raise TooMuch(f"more than {MAX_CHARACTERS:,} characters")


class _Bounding(NodeTransformer):
    """Has loops counted, and joined texts measured."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filter(node.iter, "_each", node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_joined", node.lineno)


def _filter(node: nodes.Node, name: str, line: int) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, [], [], None, None, lineno=line)


@pass_context  # so that nothing of it is done while it is compiled
def _each(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    meter = _environment(context).meter
    for item in items:
        meter.step()
        yield item


@pass_context
def _joined(context: Context, parts: list[Any]) -> str:
    return _join(context, parts)


@pass_context
def _join(context: Context, items: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    environment = _environment(context)
    parts = []
    for item in items:
        environment.meter.step()
        parts.append(item if attribute is None else environment.getitem(item, attribute))
    texts = [part if isinstance(part, str) else str(part) for part in parts]
    _sized(sum(map(len, texts)) + len(d) * len(texts))
    if context.eval_ctx.autoescape:
        return Markup.escape(d).join(parts)
    return str(d).join(texts)


def _replace(text: Any, old: str, new: str) -> str:
    said = text if isinstance(text, str) else str(text)
    _sized(len(said) + (said.count(old) if old else len(said) + 1) * len(new))
    return said.replace(old, new)


def _indent(text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    if not isinstance(width, int) or not 0 <= width <= _MAX_WIDTH:
        raise TooMuch(f"an indent of more than {_MAX_WIDTH}")
    _sized(len(text) + width * (text.count("\n") + 1))
    indented: str = FILTERS["indent"](text, width, first, blank)
    return indented


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if not -20 <= precision <= 20:
        raise TooMuch("a precision beyond 20")
    rounded: float = FILTERS["round"](value, precision, method)
    return rounded


def _range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > _MAX_RANGE:
        raise TooMuch(f"a range of more than {_MAX_RANGE:,}")
    return found


def _environment(context: Context) -> "_BoundedEnvironment":
    assert isinstance(context.environment, _BoundedEnvironment)
    return context.environment


class _Reading:
    """How far the tokens of a template have been taken, so that what is wrong has a column; Jinja
    itself knows lines alone."""

    def __init__(self, source: str = "") -> None:
        self._source = re.sub(r"\r\n?", "\n", source)
        self._begin = self._end = 0

    def follow(self, tokens: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
        for token in tokens:
            found = self._source.find(token[2], self._end)  # blanks may be left out between them
            self._begin = self._end if found < 0 else found
            self._end = self._begin + len(token[2])
            yield token
            self._begin = self._end
        self._begin = len(self._source)

    def column(self, error: TemplateSyntaxError) -> int:
        """Of the token at which the reading ended, or of the word that is not known; 0 where its
        line has neither."""
        before, said = self._source[: self._begin], error.message or ""
        stopped = self._begin < len(self._source) or "end of template" in said
        if stopped and before.count("\n") + 1 == error.lineno:
            return len(before.rpartition("\n")[2]) + 1
        named = _NAMED.search(said)
        lines = self._source.split("\n")
        text = lines[error.lineno - 1] if error.lineno <= len(lines) else ""
        return text.find(named[1]) + 1 if named else 0


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self, load: Callable[[str], Any], meter: _Meter) -> None:
        super().__init__(
            loader=FunctionLoader(load),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            cache_size=_MAX_FILES,
            auto_reload=False,
        )
        self.meter = meter
        self.filters = {name: FILTERS[name] for name in _FILTERS}
        self.filters |= {"_each": _each, "_joined": _joined, "join": _join, "replace": _replace}
        self.filters |= {"indent": _indent, "round": _round}
        self.globals = {"range": _range, "dict": dict, "namespace": Namespace,
                        "cycler": Cycler, "joiner": Joiner}  # fmt: skip
        self._functions = tuple(self.globals.values())
        self.reading = _Reading()

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        self.reading = _Reading(source)
        tokens = self.reading.follow(self.lexer.tokeniter(source, name, filename, state))
        return TokenStream(self.lexer.wrap(tokens, name, filename), name, filename)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed: nodes.Template = _Bounding().visit(super()._parse(source, name, filename))
        return parsed

    def concat(self, parts: Iterable[str]) -> str:
        kept, size = list[str](), 0
        for part in parts:
            size += len(part)
            try:
                self.meter.step()
                _sized(size)
            except TooMuch as error:
                if isinstance(parts, Generator):
                    parts.throw(error)  # so that it tells the line that it is at
                raise
            kept.append(part)
        return "".join(kept)

    def get_template(self, *args: Any, **kwargs: Any) -> Template:
        self.meter.step()
        return super().get_template(*args, **kwargs)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        self.meter.step()
        return super().call(context, obj, *args, **kwargs)

    def is_safe_callable(self, obj: Any) -> bool:
        """What is known to be quick: nothing else of a value can be called."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            return name in _STRING_METHODS
        if isinstance(owner, Mapping):
            return name in _MAPPING_METHODS
        known = (Macro, LoopContext, Cycler, Joiner)
        return (
            isinstance(obj, known)
            or isinstance(owner, known)
            or any(obj is function for function in self._functions)
        )

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        texts = [side for side in (left, right) if isinstance(side, str | list | tuple)]
        match operator:
            case "**":
                raise TooMuch("a power (**)")
            case "*" if texts:
                counts = [side for side in (left, right) if isinstance(side, int)]
                _sized(len(texts[0]) * max(counts, default=0))
            case "+":
                _sized(sum(map(len, texts)))
            case "%" if isinstance(left, str) and _WIDE.search(left):
                raise TooMuch("a width of more than 999")
        value = super().call_binop(context, operator, left, right)
        if isinstance(value, int) and abs(value) >= _MAX_NUMBER:
            raise TooMuch(f"a number of more than {_MAX_NUMBER}")
        return value


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """What is wrong with a file, by its line and column; 0 where none is to blame, or known."""

    path: str
    line: int
    message: str
    column: int = 0

    def __str__(self) -> str:
        place = ":".join(str(number) for number in (self.line, self.column) if number)
        return f"{self.path}:{place}: {self.message}" if place else f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class OwnTemplates:
    """The files of the directory `templates` of the configuration: texts by name, and what is wrong
    with those that cannot be read. `failures` counts the messages that went out with a bundled text
    because one failed, by its name."""

    directory: Path | None = None
    monotonic: Callable[[], float] = float
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[TemplateProblem] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.directory is None:
            return
        try:
            paths = sorted(path for path in self.directory.iterdir() if path.is_file())
        except OSError as error:
            self._wrong(self.directory, 0, error.strerror or str(error))
            return
        for path in paths[:_MAX_FILES]:
            if not path.name.startswith("."):
                self._read(path)
        if len(paths) > _MAX_FILES:
            self._wrong(self.directory, 0, f"more than {_MAX_FILES} files")

    def _read(self, path: Path) -> None:
        if not (path.name.startswith("_") or is_known(path.name)):
            names = ", ".join(NAMES)
            self._wrong(path, 0, f"no template of messages: {names}, each also as NAME.zh.txt,"
                        " NAME.json for webhooks, and what these include, whose names begin"
                        " with _")  # fmt: skip
            return
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_BYTES + 1)
            if len(data) > _MAX_FILE_BYTES:
                self._wrong(path, 0, f"more than {_MAX_FILE_BYTES >> 10} KiB")
            else:
                self.sources[path.name] = data.decode()
        except OSError as error:
            self._wrong(path, 0, error.strerror or str(error))
        except UnicodeDecodeError:
            self._wrong(path, 0, "not UTF-8")

    def _wrong(self, path: Path, line: int, message: str) -> None:
        self.problems.append(TemplateProblem(str(path), line, message))

    def path(self, file: str) -> str:
        return str(self.directory / file) if self.directory else file

    def file(self, name: str, language: str) -> str:
        """The file that stands for `name` in this language; "" where ours does."""
        stem, _, end = name.rpartition(".")
        names = (f"{stem}.{language}.{end}", name)
        return next((file for file in names if file in self.sources), "")

    def compiled(self, language: str, known: Mapping[str, Any]) -> "OwnRenderer":
        """`known` is what every template sees."""
        bodies = sorted(name for name in self.sources if _is_body(name))
        files = {name: self.file(name, language) for name in (*NAMES, *bodies)}
        return OwnRenderer(self, {name: file for name, file in files.items() if file}, known)

    def load(self, name: str) -> tuple[str, str, Callable[[], bool]] | None:
        """A template by the name under which others include it."""
        if name.startswith(BUNDLED):
            return bundled_source(name.removeprefix(BUNDLED)), name, lambda: True
        source = self.sources.get(name)
        return None if source is None else (source, self.path(name), lambda: True)


def bundled_source(name: str) -> str:
    """The text of a bundled template; raises TemplateNotFound for what is none."""
    if name not in NAMES or name == "chat.txt":  # which is made of parts
        raise TemplateNotFound(f"{BUNDLED}{name}")
    return files("tocsin_alerting.notify").joinpath("templates", name).read_text(encoding="utf-8")


def is_known(file: str) -> bool:
    if _is_body(file):
        return True
    stem, *language, end = file.split(".") if "." in file else ("", "")
    return f"{stem}.{end}" in NAMES and (not language or language in ([one] for one in LANGUAGES))


def _is_body(file: str) -> bool:
    return file.endswith(BODIES) and not file.startswith("_")


class OwnRenderer:
    """The operator's templates in one language, by the names of the bundled ones."""

    def __init__(
        self, own: OwnTemplates, files: Mapping[str, str], known: Mapping[str, Any]
    ) -> None:
        self.files = files
        self._own, self._said = own, set[str]()
        self._meter = _Meter(own.monotonic)
        self._environment = _BoundedEnvironment(own.load, self._meter)
        self._environment.globals.update(known)
        self._templates: dict[str, Template | TemplateProblem] = {}
        for name in files:  # now: on a busy machine that takes long
            self._templates[name] = self._compiled(name)

    def _compiled(self, name: str) -> Template | TemplateProblem:
        self._meter.begin()
        try:
            return self._environment.get_template(self.files[name])
        except Exception as error:  # whatever the file holds: a page must go out
            return self._problem(name, error)

    def render(self, name: str, shown: Mapping[str, Any]) -> str | None:
        """None where there is none of that name, and where it fails."""
        if name not in self.files:
            return None
        text = self.attempt(name, shown)
        if isinstance(text, str):
            return text
        self._own.failures[name] += 1
        if name not in self._said:
            self._said.add(name)
            log.error("template failed, the bundled text is sent: %s", text)
        return None

    def attempt(self, name: str, shown: Mapping[str, Any]) -> str | TemplateProblem:
        template = self._templates[name]
        if isinstance(template, TemplateProblem):
            return template
        self._meter.begin()
        try:
            text = template.render(shown)
        except Exception as error:  # whatever it is: the bundled text goes out
            return self._problem(name, error)
        if not text.strip():
            return TemplateProblem(self._own.path(self.files[name]), 0, "it gives no text")
        if _is_body(name) and (wrong := _json_error(text)):
            return TemplateProblem(self._own.path(self.files[name]), 0, wrong)
        return text

    def _problem(self, name: str, error: Exception) -> TemplateProblem:
        """By the line of the operator's file that was at work."""
        own = {self._own.path(file) for file in self._own.sources}
        frames = traceback.extract_tb(error.__traceback__)
        places = [(frame.filename, frame.lineno or 0) for frame in frames if frame.filename in own]
        path, line = places[-1] if places else (self._own.path(self.files[name]), 0)
        column = 0
        if isinstance(error, TemplateSyntaxError):
            path, line = error.filename or path, error.lineno
            column = self._environment.reading.column(error)
        words = "it calls itself" if isinstance(error, RecursionError) else str(error)
        words = f"refused: {words}" if isinstance(error, TooMuch) else words
        return TemplateProblem(path, line, words[:500] or type(error).__name__, column)


def _json_error(text: str) -> str:
    """By the place in what it gave: a value that is not written with `tojson`, most often."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        near = text[max(error.pos - 20, 0) : error.pos + 20]
        return f"it gives no JSON: {error.msg} near {near!r}; write values with | tojson"
    except (ValueError, RecursionError):
        return "it gives no JSON: its values are nested too deep, or too long"
    return ""
