"""Go text/template for labels and annotations, with the variables and failures of Prometheus.

gotpl does Go's language; this file gives it Prometheus's variables and puts its errors into Go's
words. It is imported when the first text with an action is met: most boxes never need its 10 MB.
"""

import re
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from math import isfinite
from typing import Any

from tocsin_alerting.annotations import EXPANSION_FAILED
from tocsin_alerting.rules.template_data import (
    CURRENT_DATA,
    GO_TYPES,
    MAX_TEXT,
    GoNumber,
    GoText,
    TemplateData,
    TemplateRoot,
    TemplateTimeout,
    go_number,
)

DEFINITIONS = (
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}"
    "{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)
_MAIN = "main template"  # never seen: errors say the name that they are given
_CALL_FAILED = re.compile(r"function '(?P<name>\w+)' failed: (?P<why>.*)", re.DOTALL)
# Where a text can be made from itself again and again, or a width be large. Most have neither.
_GROWING = re.compile(
    r"=|\b(?:with|template|define|block)\b|%[^%A-Za-z]*(?:\d{3}|\*)|\bprintf\b(?!\s+[\"`])"
)
# Where a field may be one of Python's own texts and numbers, which have methods: `("x").zfill`.
_ANY_FIELD = re.compile(r"=|\)\s*\.|\b(?:with|range|template|define|block)\b")
_NO_FIELD = re.compile(r"(?:attribute|property|method) '(?P<name>\w+)' is not allowed")
# gotpl's words for a value of a wrong type, and Go's; both name the type.
_TYPES_NAMED = {
    re.compile(pattern): words
    for pattern, words in {
        r"argument \d+ to \w+: expected (\w+), got (\w+)": (
            "wrong type for value; expected {}; got {}"
        ),
        r"range cannot iterate over (\w+)": "range can't iterate over {}",
        r"cannot slice value of type (\w+)": "can't slice item of type {}",
        r"value of type (\w+) has no length": "len of type {}",
        r"value of type (\w+) is not callable": "non-function of type {}",
    }.items()
}
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\s*-?\}\}|[()|]|\s+|[^\s()|"`}]+|.', re.DOTALL)


# What most texts have, and nothing else: a thousand alerts are expanded at every evaluation.
_PLAIN = re.compile(
    r"(?<!\{)\{\{\s*(?:(?:\$labels|\.Labels)\.(?P<label>[A-Za-z_][A-Za-z0-9_]*)|\$value|\.Value"
    r'|printf\s+"%\.(?P<digits>\d)f"\s+(?:\$value|\.Value))\s*(?:\|\s*(?P<function>\w+)\s*)?\}\}'
)
_OF_ONE = frozenset(
    """humanize humanize1024 humanizeDuration humanizePercentage humanizeTimestamp
    title toLower toUpper stripPort stripDomain""".split()
)
# The same for a check, where it need not be known what comes of it: texts all of whose actions are
# a value, a label, a text or a number, through functions. None of these can be wrong to the parser.
_SPACE = r"[ \t\r\n]"
_OPERAND = (
    r"(?:\$labels(?:\.[A-Za-z_][A-Za-z0-9_]*)?|\.Labels\.[A-Za-z_][A-Za-z0-9_]*|\$value|\.Value"
    r'|"[^"\\\n]*"|[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_.$"])'
)
CHECKED_FUNCTIONS = (*sorted(_OF_ONE), "printf", "reReplaceAll", "match", "query", "first", "value")
_FUNCTION = rf"(?:{'|'.join(CHECKED_FUNCTIONS)})(?![A-Za-z0-9_])(?:{_SPACE}+{_OPERAND})*"
CHECKED = re.compile(
    rf"(?:[^{{]++|\{{(?!\{{)|\{{\{{(?:-{_SPACE})?{_SPACE}*(?:{_OPERAND}|{_FUNCTION})"
    rf"(?:{_SPACE}*\|{_SPACE}*{_FUNCTION})*{_SPACE}*(?:{_SPACE}-)?\}}\}})*+"
)
_MAX_PIECES = 64  # so that no text grows far beyond its labels
_Piece = Callable[[TemplateData], str]


class TemplateSyntaxProblem(ValueError):
    """A text that is no template; `offset` is where, in characters from its start."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class ExpansionFailed(ValueError):
    """A template that parses and cannot be expanded with these values; in Go's words."""


def check(text: str) -> None:
    """Raises TemplateSyntaxProblem when `text` is no template."""
    if "{{" in text and not CHECKED.fullmatch(text):
        parses(text)


@lru_cache(maxsize=1024)  # alerts of one kind share their texts
def parses(text: str) -> bool:
    """Raises TemplateSyntaxProblem when it does not."""
    _compiled.__wrapped__(text)
    return True


async def expand(text: str, name: str, scope: TemplateData) -> str:
    """`text` with its actions done; `name` is what Go's errors call it. Raises ExpansionFailed."""
    if "{{" not in text:
        return text
    token = CURRENT_DATA.set(scope)
    try:
        if (plain := _plain(text, scope)) is not None:
            return plain
        return await _rendered(text, name, scope)
    finally:
        CURRENT_DATA.reset(token)


def _plain(text: str, scope: TemplateData) -> str | None:
    """As gotpl would have it, a tenth of the time; None for what only gotpl can, or can refuse."""
    pieces = _pieces(text)
    if pieces is None:
        return None
    try:
        with scope.spending.text():
            return "".join(piece if isinstance(piece, str) else piece(scope) for piece in pieces)
    except Exception:  # why: whatever it is, gotpl says it in Go's words
        return None


@lru_cache(maxsize=512)
def _pieces(text: str) -> tuple[str | _Piece, ...] | None:
    """The texts between plain actions, and the actions; None when there are others."""
    pieces: list[str | _Piece] = []
    end = 0
    for match in _PLAIN.finditer(text):
        if (piece := _piece(match)) is None:
            return None
        pieces += [text[end : match.start()], piece]
        end = match.end()
    pieces.append(text[end:])
    other = any(isinstance(text, str) and "{{" in text for text in pieces)
    return None if other or len(pieces) > _MAX_PIECES else tuple(pieces)


def _piece(match: re.Match[str]) -> _Piece | None:
    label, digits, function = match["label"], match["digits"], match["function"]
    if function is None:
        if digits is not None:
            return lambda scope: _fixed(scope.value, int(digits))
        if label is not None:
            return lambda scope: scope.labels.get(label, "")
        return lambda scope: _decimal(scope.value)
    if digits is not None or function not in _OF_ONE:
        return None
    from tocsin_alerting.rules.template_functions import FUNCTIONS

    change = FUNCTIONS[function]
    if label is not None:
        return lambda scope: str(change(GoText(scope.labels.get(label, ""))))
    return lambda scope: str(change(GoNumber(scope.value)))


def _decimal(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e6:
        raise ValueError("Go may write it with an exponent")
    return go_number(value)


def _fixed(value: float, digits: int) -> str:
    if not isfinite(value):
        raise ValueError("Go writes these otherwise")
    return f"{value:.{digits}f}"


async def _rendered(text: str, name: str, scope: TemplateData) -> str:
    import gotpl

    try:
        template = _compiled(text)
        with scope.spending.text():
            if "query" in text:
                return str(await template.render_async(TemplateRoot(scope)))
            return str(template.render(TemplateRoot(scope)))
    except TemplateSyntaxProblem as error:
        raise ExpansionFailed(
            f"error parsing template {name}: template: {name}:1: {error}"
        ) from None
    except gotpl.TemplateError as error:
        raise ExpansionFailed(
            f"error executing template {name}: {_in_go_words(error, name, DEFINITIONS + text)}"
        ) from None
    except RecursionError:
        raise ExpansionFailed(
            f"error executing template {name}: template: {name}: exceeded maximum template depth"
        ) from None


async def expand_or_error(text: str, name: str, scope: TemplateData) -> str:
    """As `expand`; a failure becomes the text, because the alert must fire nevertheless."""
    try:
        return await expand(text, name, scope)
    except ExpansionFailed as error:
        return f"{EXPANSION_FAILED}{error}>"


async def expand_label(text: str, name: str, scope: TemplateData) -> str:
    """As `expand_or_error`, but raises OutOfTime: the labels are the alert, so that with a text
    that is there now and then it would resolve and fire again."""
    scope.spending.exceeded = False
    expanded = await expand_or_error(text, name, scope)
    if scope.spending.exceeded:
        raise TemplateTimeout(expanded)
    return expanded


# Only what has fired is compiled and kept: a compiled template takes about 20 kB.
@lru_cache(maxsize=512)
def _compiled(text: str) -> Any:
    import gotpl

    try:
        environment = _environment(
            bounded=_GROWING.search(text) is not None,
            sandboxed=_ANY_FIELD.search(text) is not None,
        )
        return environment.from_string(DEFINITIONS + text, name=_MAIN)
    except gotpl.TemplateSyntaxError as error:
        reason = str(error).split(": ", 1)[1].replace("'", '"')
        before = (DEFINITIONS + text).encode()[: error.position].decode(errors="ignore")
        raise TemplateSyntaxProblem(reason, max(0, len(before) - len(DEFINITIONS))) from None
    except RecursionError:
        raise TemplateSyntaxProblem("nested too deeply", 0) from None


@cache
def _environment(bounded: bool, sandboxed: bool) -> Any:
    """`bounded`: also what Go's own functions make of values; `sandboxed`: no field is Python's."""
    import gotpl

    from tocsin_alerting.rules.template_functions import BOUNDED_BUILTINS, FUNCTIONS

    budget = gotpl.ExecutionBudget(
        max_output_chars=MAX_TEXT,
        max_iterations=20_000,
        max_function_calls=20_000,
        max_template_depth=1_000,  # Go's is 100,000, and takes 10 s here
    )
    functions = {**FUNCTIONS, **(BOUNDED_BUILTINS if bounded else {})}
    sandbox = gotpl.SandboxPolicy(
        allow_functions=functions, allow_custom_lookup=True, max_template_chars=sys.maxsize
    )
    return gotpl.Environment(
        functions=functions,
        missing_key="zero",
        budget=budget,
        sandbox=sandbox if sandboxed else None,  # each text takes 0.1 ms more in it
    )


def _in_go_words(error: Any, name: str, source: str) -> str:
    """`template: N:1:116: executing "N" at <toTime $value>: error calling toTime: …`"""
    message, called = _go_types(error.message), ""
    match = _CALL_FAILED.fullmatch(message)
    if match:
        why = _go_types(match["why"])
        message, called = f"error calling {match['name']}: {why}", match["name"]
    elif field := _NO_FIELD.fullmatch(message):
        message = f"can't evaluate field {field['name']}"
    inside = name if error.template_name in (None, _MAIN) else error.template_name
    offset, command = _command(source, _characters(source, error.position or 0), called)
    before = source[:offset].encode()
    line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2])
    return f'template: {name}:{line}:{column}: executing "{inside}" at <{command}>: {message}'


def _go_types(text: str) -> str:
    """Without the names of Python's types."""
    for pattern, words in _TYPES_NAMED.items():
        if named := pattern.fullmatch(text):
            return words.format(*(GO_TYPES.get(name, name) for name in named.groups()))
    return text


def _characters(source: str, position: int) -> int:
    """gotpl counts bytes."""
    return len(source.encode()[:position].decode(errors="ignore"))


def _command(source: str, start: int, called: str) -> tuple[int, str]:
    """Where the command at `start` is, and its text; of a pipeline, the one that calls `called`."""
    commands = _pipeline(source, start)
    for offset, text in commands:
        if called and text.split(" ")[0] == called:
            return offset, text
    return commands[0]


def _pipeline(source: str, start: int) -> list[tuple[int, str]]:
    """The commands from `start` on, up to an end or to a parenthesis that is not their own."""
    commands: list[tuple[int, str]] = []
    words: list[str] = []
    depth, begin = 0, start
    for match in _TOKEN.finditer(source, start):
        token = match[0]
        depth += (token == "(") - (token == ")")
        if depth < 0 or token.endswith("}}"):
            break
        if token == "|" and not depth:
            commands.append((begin, "".join(words).strip()))
            words, begin = [], match.end()
        elif token.isspace() and not words:
            begin = match.end()
        else:
            words.append(" " if token.isspace() else token)
    return [*commands, (begin, "".join(words).strip())]
