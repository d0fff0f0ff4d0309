"""Whether what pages depends on one thing, and has been seen to work: ways to the outside that are
one way, and receivers that nothing was delivered by for long.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import Calendars, incident_config
from tocsin_alerting.config.paging import warnings
from tocsin_alerting.config.reach_lint import reach_warnings
from tocsin_alerting.incidents.roster import possible_addressees
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.rules.severity import Severity

UNUSED_MS = 30 * 86_400_000
JOURNAL = "incidents.db"
_FIRST = "SELECT MIN(ts_ms) FROM history"
_LATELY = (
    "SELECT DISTINCT json_extract(data_json, '$.receiver') FROM history"
    " WHERE ts_ms >= ? AND event = 'delivered'"
)
# One service each; of the others the host alone says which it is.
_OF_THEIR_OWN = frozenset({"alertmanager", "apprise", "email", "exec", "syslog", "webhook"})


# Each may be switched off by its name, `alertctl check --ignore NAME`.
ADVICE = ("single-channel", "unused-receiver", "nobody-at-hours")


def advice(
    config: Config, vault: Vault, now_ms: int, calendars: Calendars | None = None
) -> Iterator[tuple[str, str]]:
    """What may be meant so, and is often not: each by its name of `ADVICE`. Without `calendars`
    nothing about schedules that have one."""
    if all(isinstance(receiver, LogSettings) for receiver in config.receivers.values()):
        return
    schedules = config.schedules.items()
    unread = {name for name, section in schedules if section.has_calendar and calendars is None}
    incidents, zone = incident_config(config, calendars), ZoneInfo(config.time_zone)
    found = (
        single_way(config, vault),
        never_seen_to_work(config, now_ms),
        reach_warnings(incidents, now_ms, zone, unread),
    )
    for name, texts in zip(ADVICE, found, strict=True):
        yield from ((name, text) for text in texts)


def all_warnings(config: Config, vault: Vault, now_ms: int) -> list[str]:
    """These and those of `paging`, for the log of an agent that starts."""
    return [*warnings(config, vault, now_ms), *(text for _, text in advice(config, vault, now_ms))]


def single_way(config: Config, vault: Vault) -> Iterator[str]:
    """P0 by one receiver of several, or by several of one service. A file with a single receiver
    has begun, and is told of in a note."""
    names = sorted(_used_by_p0(config))
    paging = [one for one in config.receivers.values() if not isinstance(one, LogSettings)]
    if len(names) == 1 and len(paging) > 1:
        yield (
            f"P0 goes out by {names[0]} alone, though there are other receivers: while that does"
            " not work nobody is paged; add one of them to the policy P0"
        )
    if len(names) < 2:
        return
    ways = {way_out(config.receivers[name], vault) for name in names}
    if len(ways) == 1:
        yield (
            f"P0 goes out by {', '.join(names)}, all of them through {ways.pop()}: while that does"
            " not work nobody is paged; add a receiver of another service"
        )


def _used_by_p0(config: Config) -> set[str]:
    incidents = incident_config(config)
    policy = incidents.policies[Severity.P0.value]
    recipients = [recipient for step in policy.steps for recipient in step.notify]
    recipients += policy.final.notify if policy.final else ()
    names = {to.receiver for to in possible_addressees(recipients, incidents.roster)}
    return _more_than_the_log(names, config)


def _more_than_the_log(names: Collection[str], config: Config) -> set[str]:
    known = config.receivers.items()
    return {name for name, one in known if name in names and not isinstance(one, LogSettings)}


def way_out(settings: Any, vault: Vault) -> str:
    """The service or the machine that has to work for it, in a word."""
    if settings.type == "email":
        return str(settings.host)
    if host := _host(_url_of(settings, vault)):
        return host
    if settings.type in _OF_THEIR_OWN:  # two of them are two
        return f"{settings.type} {id(settings)}"
    own = "api_url" in settings.model_fields_set
    return (_host(settings.api_url) if own else "") or str(settings.type)


def _url_of(settings: Any, vault: Vault) -> str:
    url = getattr(settings, "url", None)
    if isinstance(url, str):
        return url
    file, variable = getattr(settings, "url_file", None), getattr(settings, "url_env", None)
    try:
        secret = vault.secret(file, variable)
    except ValueError:
        return ""
    return secret.value if secret else ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def never_seen_to_work(config: Config, now_ms: int) -> Iterator[str]:
    """Receivers that a policy or a route uses and that nothing was delivered by in 30 days, by the
    journal of this machine's agent; nothing before it is so old."""
    worked = lately_delivered(Path(config.storage.path) / JOURNAL, now_ms - UNUSED_MS)
    for name in sorted(_used(config)) if worked is not None else ():
        if name not in (worked or ()):
            yield (
                f'receiver "{name}": nothing was delivered by it in 30 days; try it: alertctl'
                f" receivers test {name}"
            )


def _used(config: Config) -> set[str]:
    incidents = incident_config(config)
    recipients = [who for route in incidents.routes for who in route.receivers_add]
    for policy in incidents.policies.values():
        recipients += [recipient for step in policy.steps for recipient in step.notify]
        recipients += policy.final.notify if policy.final else ()
    used = {to.receiver for to in possible_addressees(recipients, incidents.roster)}
    return {
        n for n in used & set(config.receivers) if not isinstance(config.receivers[n], LogSettings)
    }


def lately_delivered(path: Path, since_ms: int) -> Collection[str] | None:
    """The receivers that something was delivered by, read beside an agent that may run. None where
    there is no journal, or none that goes back so far or that this version can read."""
    if not path.is_file():
        return None
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            first = connection.execute(_FIRST).fetchone()[0]
            if first is None or first > since_ms:
                return None
            return {str(name) for (name,) in connection.execute(_LATELY, (since_ms,))}
    except sqlite3.Error:
        return None
