"""By which address of a contact a type of channel writes to people, and telephone numbers.

A channel that can write to a contact needs one line in `CONTACT_WAYS`. What the configuration, its
checks and the roster know of ways comes from there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SHOWN_DIGITS = 3


@dataclass(frozen=True, slots=True)
class ContactWay:
    """`key` is the contact's key that holds the address; the first receiver of one of `types` in
    the file takes the messages."""

    name: str
    key: str
    types: tuple[str, ...]
    does: str


CONTACT_WAYS = (
    ContactWay("email", "email", ("email",), "sends mail"),
    ContactWay("sms", "phone", ("twilio_sms", "aliyun_sms"), "sends SMS"),
    ContactWay("phone", "phone", ("twilio_voice", "aliyun_voice"), "calls"),
)
EMAIL = "email"
_KEY_OF_TYPE = {kind: way.key for way in CONTACT_WAYS for kind in way.types}
_WAY_OF_TYPE = {kind: way for way in CONTACT_WAYS for kind in way.types}


def contact_key(kind: object) -> str:
    """The key of contacts by which receivers of this type write to them; "" when they do not."""
    return _KEY_OF_TYPE.get(kind, "") if isinstance(kind, str) else ""


def ways_by(keys: Iterable[str]) -> tuple[str, ...]:
    """The ways that a contact with these keys may have."""
    held = set(keys)
    return tuple(way.name for way in CONTACT_WAYS if way.key in held)


def types_by(key: str) -> tuple[str, ...]:
    """The types of receivers that write to contacts by this key."""
    return tuple(kind for way in CONTACT_WAYS if way.key == key for kind in way.types)


def way_receivers(types: Mapping[str, object]) -> dict[str, str]:
    """Of each way the receiver that takes it, the first of its types; `types` by receiver."""
    first: dict[str, str] = {}
    for receiver, kind in types.items():
        way = _WAY_OF_TYPE.get(kind) if isinstance(kind, str) else None
        if way is not None:
            first.setdefault(way.name, receiver)
    return first


def no_receiver_words(way_name: str) -> str:
    """What to do where a contact has the address and no receiver takes the way; "" for others."""
    way = next((way for way in CONTACT_WAYS if way.name == way_name), None)
    if way is None:
        return ""
    return f"no receiver {way.does}; add one of type {' or '.join(way.types)}"


def phone_number(text: str) -> str:
    """A number with its country, `+8613800000000`. Raises ValueError for anything else."""
    if _E164.fullmatch(text):
        return text
    if re.fullmatch(r"\+?[0-9 ()./-]+", text):
        digits = "".join(char for char in text if char.isdigit() or char == "+")
        if _E164.fullmatch(digits):
            raise ValueError(f"write the number without blanks and signs: {digits}")
        if not text.startswith("+"):
            raise ValueError("a number needs its country: + and its code first, as +8613800000000")
    raise ValueError("not a telephone number like +8613800000000: +, then 7 to 15 digits")


def masked_number(number: str) -> str:
    """`…000`: enough to tell one's own telephone from another, in logs and on pages."""
    return f"…{number[-_SHOWN_DIGITS:]}" if len(number) > 2 * _SHOWN_DIGITS else "…"
