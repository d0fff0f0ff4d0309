"""Checks between the parts of a configuration: each name meant must be a name given.

They read the plain data and not the model, so that these errors come together with those of the
single values, however broken the rest of the file is.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tocsin_alerting.incidents.escalation_policy import Severity
from tocsin_alerting.notify.registry import CHANNELS
from tocsin_alerting.yaml_document import Document, Path, Problem, did_you_mean
from tocsin_exporter.engine_access import EngineAccess, place

Findings = Iterator[tuple[Path, str]]

_ZERO_DURATIONS = {f"0{unit}" for unit in ("y", "w", "d", "h", "m", "s", "ms")}


def reference_problems(document: Document) -> list[Problem]:
    """Everything that is wrong between the parts, at its place."""
    data = document.data
    return [document.problem(path, message) for check in CHECKS for path, message in check(data)]


def parts_at(data: Any, *pattern: str | int) -> Iterator[tuple[Path, Any]]:
    """The parts of `data` at `pattern`, in which `*` means every key or every item."""
    if not pattern:
        yield (), data
        return
    step, *rest = pattern
    for key, value in _children(data):
        if step in ("*", key):
            for path, found in parts_at(value, *rest):
                yield (key, *path), found


def _children(data: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(data, Mapping):
        yield from data.items()
    elif isinstance(data, list):
        yield from enumerate(data)


def names(data: Any, section: str) -> list[str]:
    return [str(path[-1]) for path, _ in parts_at(data, section, "*")]


def receivers(data: Any) -> list[str]:
    return names(data, "receivers") or ["log"]


def mailers(data: Any) -> list[str]:
    """The receivers of type email, in the order of the file: the first one writes to contacts."""
    types = parts_at(data, "receivers", "*", "type")
    return [str(path[1]) for path, kind in types if kind == "email"]


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


def addressees(data: Any) -> Iterator[tuple[Path, Any]]:
    yield from parts_at(data, "policies", "*", "steps", "*", "notify", "*")
    yield from parts_at(data, "policies", "*", "final", "notify", "*")


def _notified_receivers(data: Any) -> Findings:
    known = receivers(data)
    places = [
        ((*path, "receiver"), name)
        for at, addressee in addressees(data)
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
    return name not in mailers(data) or any(parts_at(data, "receivers", name, "to", "*"))


def _notified_contacts(data: Any) -> Findings:
    known = names(data, "contacts")
    for path, addressee in addressees(data):
        if not isinstance(addressee, Mapping):
            continue
        contact = addressee.get("contact")
        if isinstance(contact, str) and contact not in known:
            yield (*path, "contact"), f'no contact is called "{contact}"' + _near(contact, known)
        if addressee.get("everyone") and not known:
            yield (*path, "everyone"), "there is nobody in contacts; add them"


def _routes(data: Any) -> Findings:
    known = [*names(data, "policies"), *Severity]
    for path, name in parts_at(data, "routes", "*", "policy"):
        if isinstance(name, str) and name not in known:
            yield path, f'no policy is called "{name}"' + _near(name, known)
    routes = list(parts_at(data, "routes", "*"))
    if routes and isinstance(routes[-1][1], Mapping) and routes[-1][1].get("match"):
        path = (*routes[-1][0], "match")
        yield path, "the last route must take what is left; add one without match after it"


def _grouping(data: Any) -> Findings:
    for path, name in (
        *parts_at(data, "group", "by", "*"),
        *parts_at(data, "routes", "*", "group_by", "*"),
    ):
        if name == "severity":
            yield (
                path,
                (
                    "severity cannot be grouped by: an alert that worsens would become a second "
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
    same = "" if first == target else f": it is {first}, written otherwise"
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
            yield (*path, "on_timeout"), "there is no timeout that could end; add timeout"


def _near(word: object, known: Any) -> str:
    return did_you_mean(str(word), known)


CHECKS: tuple[Callable[[Any], Findings], ...] = (
    _channel_types,
    _notified_receivers,
    _notified_contacts,
    _routes,
    _grouping,
    _escalation,
    _engines,
    _process_names,
    _without_effect,
)
