"""JSON bodies as Alertmanager reads them, and its words for those that it cannot read.

`what` names the body in these words: alerts, silence.
"""

import re
from datetime import datetime
from typing import Any

import orjson

from tocsin_alerting.api.alertmanager.endpoint import Refused
from tocsin_alerting.strconv import quote

_TYPES = {dict: "object", list: "array", str: "string", bool: "bool"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[-+]\d\d:?\d\d)?", re.ASCII)
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def decoded(body: bytes, what: str) -> Any:
    """The JSON of a body. Raises Refused."""
    try:
        return orjson.loads(_with_valid_escapes(body))
    except orjson.JSONDecodeError as error:
        raise unreadable(str(error), what) from None


def _with_valid_escapes(body: bytes) -> bytes:
    """Half of a surrogate pair is U+FFFD, as Go reads it: one odd name must not lose all others."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], body)


def time_ms(text: object, name: str, what: str) -> int | None:
    """Unix milliseconds. Go's zero time, which amtool sends, is none; `name` is Go's of the field.
    Raises Refused."""
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise wrong_type(text, f"struct field {name} of type string", what)
    try:
        moment = datetime.fromisoformat(text.upper()) if _TIME.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        why = f"parsing time {quote(text[:100])} as RFC 3339 failed ({name.rpartition('.')[2]})"
        raise unreadable(why, what)
    if moment.year == 1:
        return None
    return round((moment if moment.tzinfo else _in_utc(moment)).timestamp() * 1000)


def _in_utc(moment: datetime) -> datetime:
    return datetime.fromisoformat(f"{moment.isoformat()}+00:00")


def unreadable(why: str, what: str) -> Refused:
    return Refused(400, f'parsing {what} body from "" failed, because {why}', 400)


def wrong_type(value: object, place: str, what: str) -> Refused:
    kind = _TYPES.get(type(value), "number")
    return unreadable(f"json: cannot unmarshal {kind} into Go {place}", what)
