"""Checks between the parts of a configuration: each name meant must be a name given.

They read the plain data and not the model, so that these errors come together with those of the
single values, however broken the rest of the file is.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tocsin_alerting.notify.contact_ways import (
    CONTACT_WAYS,
    EMAIL,
    contact_key,
    no_receiver_words,
    way_receivers,
    ways_by,
)
from tocsin_alerting.notify.registry import CHANNELS
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.yaml_document import Document, Path, Problem, did_you_mean
from tocsin_exporter.engine_access import EngineAccess, place

Findings = Iterator[tuple[Path, str]]

_NAMED = (
    *((section, "*") for section in ("contacts", "receivers", "schedules", "policies")),
    ("contacts", "*", "ways", "*"),
)
# Of those that Unicode counts as printable, what is drawn as nothing.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_ZERO_DURATIONS = {f"0{unit}" for unit in ("y", "w", "d", "h", "m", "s", "ms")}


def reference_problems(document: Document) -> list[Problem]:
    """Everything that is wrong between the parts, at its place."""
    data = document.data
    unusable = [document.problem(path, why, key=True) for path, why in _names_for_people(data)]
    found = [document.problem(path, message) for check in CHECKS for path, message in check(data)]
    return [*unusable, *found]


def parts_at(data: Any, *pattern: str | int) -> Iterator[tuple[Path, Any]]:
    """The parts of `data` at `pattern`, in which `*` means every key or every item."""
    if not pattern:
        yield (), data
        return
    step, *rest = pattern
    for key, value in _children(data):
        if step in ("*", key):
            for path, part in parts_at(value, *rest):
                yield (key, *path), part


def _children(data: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(data, Mapping):
        yield from data.items()
    elif isinstance(data, list):
        yield from enumerate(data)


def names(data: Any, section: str) -> list[str]:
    return [str(path[-1]) for path, _ in parts_at(data, section, "*")]


def receivers(data: Any) -> list[str]:
    return names(data, "receivers") or ["log"]


def contact_writers(data: Any) -> dict[str, str]:
    """The receivers that write to contacts, by the way: the first that can in the file."""
    types = parts_at(data, "receivers", "*", "type")
    return way_receivers({str(path[1]): kind for path, kind in types})


def _names_for_people(data: Any) -> Findings:
    """People read them, and messages carry them: one that cannot be seen reaches nobody."""
    for pattern in _NAMED:
        for path, _ in parts_at(data, *pattern):
            name = str(path[-1])
            seen = "".join(char if _is_visible(char) else f"\\u{ord(char):04x}" for char in name)
            if not name:
                yield path, f"{pattern[0]}: a name must not be empty; write one"
            elif seen != name:
                yield path, f'{pattern[0]}: "{seen}" has characters nobody sees; leave them out'
            elif name != name.strip():
                yield path, f'{pattern[0]}: "{name}" begins or ends with a blank; leave it out'


def _is_visible(char: str) -> bool:
    return char.isprintable() and not _UNSEEN.match(char)


def _channel_types(data: Any) -> Findings:
    known = ", ".join(CHANNELS)
    for path, settings in parts_at(data, "receivers", "*"):
        kind = settings.get("type") if isinstance(settings, Mapping) else None
        if kind is None:
            yield path, f"a receiver needs a type; add one of {known}"
        elif not isinstance(kind, str) or kind not in CHANNELS:
            yield (
                (*path, "type"),
                f'no channel is called "{kind}", only {known}{_near(kind, CHANNELS)}',
            )


def recipients(data: Any) -> Iterator[tuple[Path, Any]]:
    yield from parts_at(data, "policies", "*", "steps", "*", "notify", "*")
    yield from parts_at(data, "policies", "*", "final", "notify", "*")


def _notified_receivers(data: Any) -> Findings:
    known = receivers(data)
    places = [
        ((*path, "receiver"), name)
        for at, addressee in recipients(data)
        for path, name in [
            (at, addressee.get("receiver") if isinstance(addressee, Mapping) else None)
        ]
    ]
    places += list(parts_at(data, "routes", "*", "receivers_add", "*"))
    for path, name in places:
        if isinstance(name, str) and name not in known:
            yield path, f'no receiver is called "{name}"' + _near(name, known)
        elif isinstance(name, str) and not _has_addressees(data, name):
            yield path, f'receiver "{name}" has no "to" of its own; add it or name a contact'


def _has_addressees(data: Any, name: str) -> bool:
    own = any(parts_at(data, "receivers", name, "to", "*"))
    return own or not any(
        contact_key(kind) for _, kind in parts_at(data, "receivers", name, "type")
    )


def _notified_contacts(data: Any) -> Findings:
    contacts, schedules = names(data, "contacts"), names(data, "schedules")
    for path, recipient in recipients(data):
        if not isinstance(recipient, Mapping):
            continue
        yield from _unknown_name(path, recipient, "contact", contacts)
        yield from _unknown_name(path, recipient, "schedule", schedules)
        if recipient.get("everyone") and not contacts:
            yield (*path, "everyone"), "contacts is empty; add them"
        yield from _unknown_ways(data, path, recipient)


def _unknown_name(path: Path, section: Mapping[str, Any], key: str, known: list[str]) -> Findings:
    name = section.get(key)
    if isinstance(name, str) and name not in known:
        yield (*path, key), f'no {key} is called "{name}"' + _near(name, known)


def _unknown_ways(data: Any, path: Path, recipient: Mapping[str, Any]) -> Findings:
    """A way that the contact does not have; of several people, one that nobody has."""
    contact = recipient.get("contact")
    if isinstance(contact, str) and contact not in names(data, "contacts"):
        return
    known = ways_of(data, contact if isinstance(contact, str) else "*")
    nobody = f'contact "{contact}" does not have' if isinstance(contact, str) else "no contact has"
    via = recipient.get("via")
    for way in via if isinstance(via, list) else [via] if via else []:
        if isinstance(way, str) and way not in known:
            yield (*path, "via"), f'{nobody} a way called "{way}"' + _lack(way, known)


def _lack(way: str, known: list[str]) -> str:
    """What a way misses that is none of `known`."""
    words = no_receiver_words(way)
    return f": {words}" if words and way != EMAIL else _near(way, known)


def ways_of(data: Any, contact: str) -> list[str]:
    """The names of the ways to reach a contact, or any (`*`)."""
    taken = {EMAIL, *contact_writers(data)}  # mail has other ways than a receiver
    keys = (way.key for way in CONTACT_WAYS if any(parts_at(data, "contacts", contact, way.key)))
    own = [str(path[-1]) for path, _ in parts_at(data, "contacts", contact, "ways", "*")]
    return list(dict.fromkeys([*(way for way in ways_by(keys) if way in taken), *own]))


def _contact_ways(data: Any) -> Findings:
    known = names(data, "receivers")
    for path, name in parts_at(data, "contacts", "*", "ways", "*"):
        if isinstance(name, str) and name not in known:
            yield path, f'no receiver is called "{name}"' + _near(name, known)
    for path, way in parts_at(data, "contacts", "*", "prefers", "*"):
        has_number = any(parts_at(data, "contacts", path[1], "phone"))
        by_number = isinstance(way, str) and has_number and way in ways_by(["phone"])
        if by_number and way not in ways_of(data, str(path[1])):
            yield path, f'prefers names "{way}", and {no_receiver_words(way)}'


def _ways_without_number(data: Any) -> Findings:
    """A contact's own way by a receiver that would need the contact's number."""
    for path, name in parts_at(data, "contacts", "*", "ways", "*"):
        for _, kind in parts_at(data, "receivers", name, "type") if isinstance(name, str) else ():
            by_number = contact_key(kind) == "phone"
            if by_number and not any(parts_at(data, "contacts", path[1], "phone")):
                yield path, f'receiver "{name}" needs the phone of {path[1]}; add it'


def _people_of_receivers(data: Any) -> Findings:
    """Who answers by a button there, or confirms there, is somebody here."""
    known = names(data, "contacts")
    for key in (("users", "*"), ("contact",)):
        for path, name in parts_at(data, "receivers", "*", *key):
            if isinstance(name, str) and name and name not in known:
                yield path, f'no contact is called "{name}"' + _near(name, known)


def _fallbacks(data: Any) -> Findings:
    known = receivers(data)
    after: dict[str, str] = {}
    for path, name in parts_at(data, "receivers", "*", "fallback"):
        if not isinstance(name, str):
            continue
        if name not in known:
            yield path, f'no receiver is called "{name}"' + _near(name, known)
        elif not _has_addressees(data, name) and name not in contact_writers(data).values():
            yield path, f'receiver "{name}" has no "to" of its own; add it or name another one'
        after[str(path[1])] = name
    for first in after:
        chain = [first]
        while (following := after.get(chain[-1])) is not None and following not in chain:
            chain.append(following)
        if following == first:
            words = " -> ".join([*chain, first])
            yield (
                ("receivers", first, "fallback"),
                f"the fallbacks lead round in a circle: {words}; the last one must have none",
            )


def _limited_ways(data: Any) -> Findings:
    known = ways_of(data, "*")
    for path, _ in parts_at(data, "rate_limits", "per_contact", "*"):
        if path[-1] not in known:
            yield path, f'no contact has a way called "{path[-1]}"' + _near(path[-1], known)


def _schedules(data: Any) -> Findings:
    known = names(data, "contacts")
    for pattern in (
        ("rotation", "members", "*"),
        ("layers", "*", "members", "*"),
        ("overrides", "*", "contact"),
    ):
        for path, name in parts_at(data, "schedules", "*", *pattern):
            if isinstance(name, str) and name not in known:
                yield path, f'no contact is called "{name}"' + _near(name, known)


def _routes(data: Any) -> Findings:
    known = [*names(data, "policies"), *Severity]
    for path, name in parts_at(data, "routes", "*", "policy"):
        if isinstance(name, str) and name not in known:
            yield path, f'no policy is called "{name}"' + _near(name, known)
    routes = list(parts_at(data, "routes", "*"))
    if routes and isinstance(routes[-1][1], Mapping) and routes[-1][1].get("match"):
        path = (*routes[-1][0], "match")
        yield path, "the last route must match everything; add one without match after it"


def _grouping(data: Any) -> Findings:
    for path, name in (
        *parts_at(data, "group", "by", "*"),
        *parts_at(data, "routes", "*", "group_by", "*"),
    ):
        if name == "severity":
            yield (
                path,
                (
                    "cannot group by severity: an alert that gets worse would become a second "
                    "incident; remove it"
                ),
            )


def _escalation(data: Any) -> Findings:
    for path, policy in parts_at(data, "policies", "*"):
        steps = [step for step in parts_at(policy, "steps", "*") if isinstance(step[1], Mapping)]
        goes_on = isinstance(policy, Mapping) and (policy.get("repeat") or policy.get("final"))
        for at, step in steps if goes_on else steps[:-1]:
            if step.get("escalate_after") is None:
                why = "it is repeated" if at == steps[-1][0] else "a step follows it"
                yield (*path, *at), f"this step needs escalate_after, for {why}; add it"


def _engines(data: Any) -> Findings:
    """Two of one place would tell one fault twice."""
    seen: dict[str, tuple[str, bool]] = {}
    for path, engine in parts_at(data, "engines", "*"):
        try:
            target, chooses = EngineAccess.of(engine["url"]).target, bool(engine.get("params"))
        except (ValueError, TypeError, AttributeError, KeyError):
            continue  # what is wrong with it is said where it is read
        first, chose = seen.get(place(target), ("", False))
        if first:
            yield (*path, "url"), _same_engine_message(target, first, chooses or chose)
        seen.setdefault(place(target), (target, chooses))


def _same_engine_message(target: str, first: str, by_params: bool) -> str:
    same = "" if first == target else f": it is {first} in another form"
    models = (
        " (params do not tell two models apart, as both would be one target: give each model a port"
        " or a path of its own, or list the engine once)"
    )
    return f"{target} is listed twice{same}; remove one{models if by_params else ''}"


def _process_names(data: Any) -> Findings:
    seen: list[Any] = []
    for path, name in parts_at(data, "processes", "*", "name"):
        if name in seen:
            yield path, f'two process groups are called "{name}"; rename one'
        seen.append(name)


def _maintenance_names(data: Any) -> Findings:
    seen: list[Any] = []
    for path, name in parts_at(data, "maintenance", "*", "name"):
        if name in seen:
            yield path, f'two maintenance windows are called "{name}"; rename one'
        seen.append(name)


def _maintenance_order(data: Any) -> Findings:
    """Only of two times that can be compared as they are written."""
    for path, window in parts_at(data, "maintenance", "*"):
        ends = [window.get(key) for key in ("from", "to")] if isinstance(window, Mapping) else []
        try:
            starts, stops = (datetime.fromisoformat(str(end)) for end in ends)
            wrong = starts >= stops
        except (ValueError, TypeError):
            continue  # what is wrong with them is said where they are read
        if wrong:
            yield (*path, "to"), "the window ends before it starts; to must be after from"


_DEFAULT_ON_TIMEOUT = "restart"  # written out, as the configuration that holds is, it is no choice


def _without_effect(data: Any) -> Findings:
    """What another key turns off would be ignored without a word."""
    for path, every in parts_at(data, "collect", "engines"):
        if (
            isinstance(every, str)
            and every in _ZERO_DURATIONS
            and list(parts_at(data, "engines", "*"))
        ):
            yield path, f"{every} turns engines off, and engines lists some; leave out one of them"
    for path, ack in parts_at(data, "policies", "*", "ack"):
        chosen = isinstance(ack, Mapping) and ack.get("on_timeout", _DEFAULT_ON_TIMEOUT)
        if chosen and chosen != _DEFAULT_ON_TIMEOUT and not ack.get("timeout"):
            yield (*path, "on_timeout"), "on_timeout has no effect without timeout; add timeout"


def _near(word: object, known: Any) -> str:
    return did_you_mean(str(word), known)


def _digests(data: Any) -> Findings:
    for path, _ in parts_at(data, "policies", "*", "digest"):
        if path[1] in ("P0", "P1"):
            yield path, f"{path[1]} pages at once; remove the digest, or use it in P2 to P4"


CHECKS: tuple[Callable[[Any], Findings], ...] = (
    _channel_types,
    _notified_receivers,
    _notified_contacts,
    _contact_ways,
    _people_of_receivers,
    _fallbacks,
    _limited_ways,
    _ways_without_number,
    _schedules,
    _routes,
    _grouping,
    _escalation,
    _digests,
    _engines,
    _process_names,
    _maintenance_names,
    _maintenance_order,
    _without_effect,
)
