"""What of a log line may be kept: nothing that users of a model wrote, and no secret.

Engines write prompts into their logs. A line that may hold one is counted, but it is neither kept
nor looked at for patterns: who writes "CUDA out of memory" to a model must page nobody.
"""

import re

import re2

MOST_CHARACTERS = 400
MASKED = "<secret>"
_NAMES = (
    "prompts?|messages|inputs?|contents?|texts?|text_input|input_text|prompt_text|prompt_token_ids|"
    "input_ids|output_ids|completions?|outputs?|text_output|generated_text|generation|response|"
    "request|query|question|instruction|documents?|body|arguments|reasoning_content|obj|out"
)
# A name as engines and frameworks write it before what users wrote, and that as text or a list:
# prompt: 'x', "messages": [, text='x', inputs: "x", prompt=["x", request:  {"prompt".
_WROTE = (
    rf"""(?:^|[\s{{(\[,;"'\\])(?:{_NAMES})\\?["']?\s{{0,4}}(?:[:=]|=>)\s{{0,4}}"""
    r"""(?:[a-zA-Z_]{0,40}\()?\\?["'\[{`]"""
)
_SAID = (
    r"Received request |Generated response |Receive: obj=|Finish: obj=|Input prompt|"
    r"Request body|Prompt: |<\|[a-z_]{2,30}\|>|\[/?INST\]|<(?:start|end)_of_turn>|"
    r"formatted (?:prompt|chat)|chat template output"
)
_USERS_WORDS = re2.compile(f"(?i){_WROTE}|{_SAID}")

_SECRET_NAMES = (
    r"(?:[\w-]{0,30}[_-])?(?:api[_-]?key|apikey|access[_-]?key|secret|password|passwd|pwd|token|"
    r"credentials?|private[_-]?key|signature|sign|sig|auth|passphrase|session[_-]?id|(?<=[_-])pass)"
)
_MASKS = (
    # The request line of an access log: whatever follows the ? may be anything.
    (re.compile(r"((?:https?://|/)[^\s?\"']{0,500})\?[^\s\"']+"), rf"\1?{MASKED}"),
    (re.compile(r"([a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,100}):[^\s/@]{1,200}@", re.I),
     rf"\1:{MASKED}@"),
    (re.compile(r"(authorization\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(bearer|basic|token|apikey|key)\s+)?[^\s\"',]+",
                re.I), rf"\1{MASKED}"),
    (re.compile(r"(\b(?:set-)?cookie\\?[\"']?\s*[:=]\s*\\?[\"']?)[^\"']+", re.I), rf"\1{MASKED}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.I), rf"\1 {MASKED}"),
    (re.compile(rf"(--{_SECRET_NAMES}(?:[=\s]\s*|[\"'],\s*))[\"']?[^\s\"',]+", re.I),
     rf"\1{MASKED}"),
    (re.compile(rf"(\b{_SECRET_NAMES}\\?[\"']?\s*[:=]\s*)(\\?[\"'])[^\"']+", re.I),
     rf"\1\2{MASKED}"),
    (re.compile(rf"(\b{_SECRET_NAMES}\s*[:=]\s*)[^\s\"',;&)\]}}]+", re.I), rf"\1{MASKED}"),
    (re.compile(r"\b(?:hf_|sk-|gh[pousr]_|glpat-|AKIA|ASIA|xox[abprs]-|AIza|nvapi-|tskey-)[\w-]{8,}"),
     MASKED),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.?[\w-]*"), MASKED),
    (re.compile(r"/bot\d{5,}:[\w-]{10,}"), f"/bot{MASKED}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*"), MASKED),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+"), "<address>"),
)  # fmt: skip
_UNPRINTABLE = re.compile(
    r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
)


def holds_prompt(line: bytes) -> bool:
    """Whether it may hold what a user of a model, or the model, wrote."""
    return _USERS_WORDS.search(line) is not None


def keepable(line: str) -> str:
    """The line without secrets, in at most MOST_CHARACTERS, for the eyes of who may respond."""
    text = _UNPRINTABLE.sub("", line.replace("\t", " ")).strip()
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
