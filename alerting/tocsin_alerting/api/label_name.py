"""Label names as they come in a URL: any UTF-8, escaped where a path could not carry it."""

import re

_ESCAPED = "U__"
_WHOLE = re.compile(r"(?:[^_]|__|_[0-9a-fA-F]{1,5}_)*", re.DOTALL)
_ESCAPE = re.compile(r"__|_([0-9a-fA-F]{1,5})_")


def unescaped(name: str) -> str:
    """`U__http_2e_status` is `http.status`: Prometheus's value encoding, in which `__` is `_` and
    `_2e_` a code point. A name that is not wholly in it stands for itself."""
    if not name.startswith(_ESCAPED):
        return name
    rest = name.removeprefix(_ESCAPED)
    if not _WHOLE.fullmatch(rest) or any(not _is_character(one) for one in _ESCAPE.findall(rest)):
        return name
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "_", rest)


def _is_character(code: str) -> bool:
    """Surrogates are none."""
    return not 0xD800 <= int(code or "0", 16) <= 0xDFFF
