"""Faults of an answer that passed, looked at in memory and never kept."""

from collections.abc import Iterator

import orjson

from tocsin_exporter.answer_text import INVALID_JSON, REPETITION, text_anomalies
from tocsin_exporter.proxy.content import Asked, Output

_CUT = frozenset(("length", "max_tokens", "max_length", "incomplete"))


def anomalies(asked: Asked, output: Output) -> Iterator[str]:
    """The kinds of faults of an answer that has ended well, each once. One without text that has
    called a tool or only thought is none, and JSON has no language."""
    text, cut = output.text, output.finish in _CUT
    if not output.whole or (output.has_besides and not text.strip()):
        return
    prompt = "" if asked.json else asked.prompt
    yield from text_anomalies(text, prompt, cut, output.finish == REPETITION)
    if asked.json and text.strip() and not cut and not _is_json(text):
        yield INVALID_JSON


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
