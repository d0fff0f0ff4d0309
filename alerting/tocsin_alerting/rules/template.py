"""Go text/template for labels and annotations, with the variables and failures of Prometheus.

gotpl does Go's language; this file gives it Prometheus's variables and puts its errors into Go's
words. It is imported when the first text with an action is met: most boxes never need its 10 MB.
"""

import re
from functools import cache, lru_cache
from typing import Any

from tocsin_alerting.rules.scope import SCOPE, OutOfTime, Root, Scope

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
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\s*-?\}\}|[()|]|\s+|[^\s()|"`}]+|.', re.DOTALL)


class TemplateSyntaxProblem(ValueError):
    """A text that is no template; `offset` is where, in characters from its start."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class ExpansionFailed(ValueError):
    """A template that parses and cannot be expanded with these values; in Go's words."""


def check(text: str) -> None:
    """Raises TemplateSyntaxProblem when `text` is no template."""
    if "{{" in text:
        _compiled.__wrapped__(text)


async def expand(text: str, name: str, scope: Scope) -> str:
    """`text` with its actions done; `name` is what Go's errors call it. Raises ExpansionFailed."""
    if "{{" not in text:
        return text
    token = SCOPE.set(scope)
    try:
        return await _rendered(text, name, scope)
    finally:
        SCOPE.reset(token)


async def _rendered(text: str, name: str, scope: Scope) -> str:
    import gotpl

    try:
        template = _compiled(text)
        with scope.spending.text():
            if "query" in text:
                return str(await template.render_async(Root(scope)))
            return str(template.render(Root(scope)))
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


async def expand_or_say(text: str, name: str, scope: Scope) -> str:
    """As `expand`; a failure becomes the text, because the alert must fire nevertheless."""
    try:
        return await expand(text, name, scope)
    except ExpansionFailed as error:
        return f"<error expanding template: {error}>"


async def expand_label(text: str, name: str, scope: Scope) -> str:
    """As `expand_or_say`, but raises OutOfTime: the labels are the alert, so that with a text that
    is there now and then it would resolve and fire again."""
    said = await expand_or_say(text, name, scope)
    if scope.spending.exceeded:
        raise OutOfTime(said)
    return said


# Only what has fired is compiled and kept: a compiled template takes about 20 kB.
@lru_cache(maxsize=512)
def _compiled(text: str) -> Any:
    import gotpl

    try:
        environment = _environment(bounded=_GROWING.search(text) is not None)
        return environment.from_string(DEFINITIONS + text, name=_MAIN)
    except gotpl.TemplateSyntaxError as error:
        reason = str(error).split(": ", 1)[1].replace("'", '"')
        before = (DEFINITIONS + text).encode()[: error.position].decode(errors="ignore")
        raise TemplateSyntaxProblem(reason, max(0, len(before) - len(DEFINITIONS))) from None
    except RecursionError:
        raise TemplateSyntaxProblem("nested too deeply", 0) from None


@cache
def _environment(bounded: bool) -> Any:
    """`bounded`: also what Go's own functions make of values."""
    import gotpl

    from tocsin_alerting.rules.template_function import BOUNDED_BUILTINS, FUNCTIONS, LONGEST_TEXT

    budget = gotpl.ExecutionBudget(
        max_output_chars=LONGEST_TEXT,
        max_iterations=20_000,
        max_function_calls=20_000,
        max_template_depth=1_000,  # Go's is 100,000, and takes 10 s here
    )
    functions = {**FUNCTIONS, **(BOUNDED_BUILTINS if bounded else {})}
    return gotpl.Environment(functions=functions, missing_key="zero", budget=budget)


def _in_go_words(error: Any, name: str, source: str) -> str:
    """`template: N:1:116: executing "N" at <toTime $value>: error calling toTime: …`"""
    message, called = error.message, ""
    found = _CALL_FAILED.fullmatch(message)
    if found:
        message, called = f"error calling {found['name']}: {found['why']}", found["name"]
    inside = name if error.template_name in (None, _MAIN) else error.template_name
    offset, command = _command(source, _characters(source, error.position or 0), called)
    before = source[:offset].encode()
    line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2])
    return f'template: {name}:{line}:{column}: executing "{inside}" at <{command}>: {message}'


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
    for found in _TOKEN.finditer(source, start):
        token = found[0]
        depth += (token == "(") - (token == ")")
        if depth < 0 or token.endswith("}}"):
            break
        if token == "|" and not depth:
            commands.append((begin, "".join(words).strip()))
            words, begin = [], found.end()
        elif token.isspace() and not words:
            begin = found.end()
        else:
            words.append(" " if token.isspace() else token)
    return [*commands, (begin, "".join(words).strip())]
