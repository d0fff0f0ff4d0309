"""What a call says: text for the ear, and the TwiML that has it spoken.

TwiML as www.twilio.com/docs/voice/twiml/say and /gather describe it; at most 4,000 characters of it
fit into the request for a call (error 32018), and 4,500 of one URL-encoded text (error 13521).
"""

import re
import unicodedata
from xml.etree.ElementTree import Element, SubElement, tostring

from tocsin_alerting.notify.message_parts import MessageParts

MOST_SPOKEN = 300  # characters, half a minute each of the two times
GATHER_SECONDS = 8
LANGUAGES = {"en": "en-US", "zh": "zh-CN"}
WORDS = {
    "en": {
        "number": "Alert from Tocsin. Incident {number}. ",
        "many": "Alert from Tocsin. ",
        "again": "I repeat. ",
        "press": "Press 1 to acknowledge.",
        "no_key": "No key was pressed. Good bye.",
        "link": "a link",
        "port": " port ",
        "dot": " dot ",
        "end": "Good bye.",
    },
    "zh": {
        "number": "Tocsin 告警。{number}号事件。",
        "many": "Tocsin 告警。",
        "again": "重复一遍。",
        "press": "按1键确认。",
        "no_key": "没有收到按键。再见。",
        "link": "链接",
        "port": "端口",
        "dot": "点",
        "end": "再见。",
    },
}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_LONG_ID = re.compile(r"\b(?=[0-9a-f-]*[0-9])(?=[0-9a-f-]*[a-f])[0-9a-f]{4,}[0-9a-f-]{8,}\b", re.I)
_ADDRESS = re.compile(r"\b(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?::(\d{1,5}))?\b")
_PORT = re.compile(r"(?<=[A-Za-z0-9\]]):(\d{2,5})\b")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEVERITY = re.compile(r"\bP([0-4])\b")
_NUMBER = re.compile(r"\(?#(\d+)\)?")


def for_the_ear(text: str, language: str) -> str:
    """Without what has no sound: addresses digit by digit, names in words, no identifiers that
    nobody can remember, no signs, and nothing that could be markup."""
    words = WORDS[language]
    text = _URL.sub(f" {words['link']} ", text)
    text = _LONG_ID.sub(lambda match: " ".join(match[0][-4:]), text)
    text = _ADDRESS.sub(lambda match: _address(match, words), text)
    text = _PORT.sub(lambda match: f"{words['port']}{match[1]} ", text)
    text = _CAMEL.sub(" ", text)
    text = _SEVERITY.sub(r"P \1", text)
    text = _NUMBER.sub("", text)
    said = "".join(_sounded(char) for char in text)
    return re.sub(r"\s+([,.:;。，：])", r"\1", " ".join(said.split())).strip(" ,.:;-")


def _address(match: re.Match[str], words: dict[str, str]) -> str:
    spoken = words["dot"].join(match[number] for number in range(1, 5))
    return spoken + (f"{words['port']}{match[5]}" if match[5] else "")


def _sounded(char: str) -> str:
    """Letters, marks, digits and what makes a pause; a blank for all else."""
    kind = unicodedata.category(char)
    if kind[0] in "LN" or kind in ("Mn", "Mc") or char in ".,:;!?%°。，：；！？、":
        return char
    return "," if char in "()[]（）【】" else " "


def sentence(parts: MessageParts, numbered: int, language: str) -> str:
    """What is said before the key is asked for: the number, then the subject in words."""
    words = WORDS[language]
    opening = words["number"].format(number=numbered) if numbered else words["many"]
    subject = re.sub(r"[,，\s]*,[,，\s]*", ", ", for_the_ear(parts.subject, language))
    return opening + _cut(subject.strip(" ,"), MOST_SPOKEN - len(opening))


def _cut(text: str, most: int) -> str:
    """The beginning of it, whole words where there are any."""
    kept = text[:most]
    return kept.rpartition(" ")[0] if len(kept) < len(text) and " " in kept[-20:] else kept


class Twiml:
    """A document that is spoken in one language; the library that writes it escapes the texts."""

    def __init__(self, language: str, voice: str = "") -> None:
        self._language, self._voice = language, voice
        self._words = WORDS[language]

    def call(self, said: str, answer_url: str) -> str:
        """The message twice; with `answer_url` a key is waited for, while it is said and after."""
        root = Element("Response")
        within = self._gather(root, answer_url) if answer_url else root
        self._say(within, said)
        SubElement(within, "Pause", length="1")
        self._say(within, self._words["again"] + said)
        if answer_url:
            self._say(within, self._words["press"])
            self._say(root, self._words["no_key"])
        else:
            self._say(root, self._words["end"])
        return _document(root)

    def reply(self, said: str) -> str:
        """To a key that was pressed: a sentence, and the call ends."""
        root = Element("Response")
        self._say(root, _cut(for_the_ear(said, self._language), MOST_SPOKEN))
        SubElement(root, "Hangup")
        return _document(root)

    def ask_again(self, answer_url: str) -> str:
        """To another key than the one that means something."""
        root = Element("Response")
        self._say(self._gather(root, answer_url), self._words["press"])
        self._say(root, self._words["no_key"])
        return _document(root)

    def _gather(self, parent: Element, answer_url: str) -> Element:
        return SubElement(
            parent,
            "Gather",
            input="dtmf",
            numDigits="1",
            timeout=str(GATHER_SECONDS),
            action=answer_url,
            method="POST",
        )

    def _say(self, parent: Element, text: str) -> None:
        attributes = {"language": LANGUAGES[self._language]}
        if self._voice:
            attributes["voice"] = self._voice
        SubElement(parent, "Say", attributes).text = text


def _document(root: Element) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>' + tostring(root, encoding="unicode")
