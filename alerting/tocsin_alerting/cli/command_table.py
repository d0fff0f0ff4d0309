"""`alertctl`'s commands by their names, each imported when it is asked for: one run takes one."""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click

COMMANDS: Mapping[str, str] = {  # the module in this folder, and the command in it
    "ack": "answers:ack",
    "alerts": "alerts:alerts",
    "assign": "answers:assign",
    "backtest": "backtest:backtest",
    "channels": "receivers:channels",
    "check": "check:check",
    "comment": "answers:comment",
    "completion": "alertctl:completion",
    "drill": "drill:drill",
    "engines": "engines:engines",
    "escalate": "answers:escalate",
    "health": "alertctl:health",
    "heartbeat": "heartbeats:heartbeat",
    "incidents": "incidents:incidents",
    "incidents export": "history:export",
    "log": "history:log",
    "maintenance": "silences:maintenance",
    "oncall": "oncall:oncall",
    "query": "query:query",
    "receivers": "receivers:receivers",
    "reload": "reload:reload",
    "resolve": "answers:resolve",
    "route": "oncall:route",
    "rules": "rules:rules",
    "show": "incidents:show",
    "silence": "silences:silence",
    "slo": "slo:slo",
    "snooze": "answers:snooze",
    "stats": "history:stats",
    "status": "status:status",
    "templates": "templates:templates",
    "test": "test:test",
    "token": "token:token",
    "unack": "answers:unack",
    "why": "why:why",
}


class CommandTable(MutableMapping[str, click.Command]):
    """What click takes for the commands of a group."""

    def __init__(self) -> None:
        self._places = dict(COMMANDS)
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            found = getattr(import_module(f"tocsin_alerting.cli.{module}"), attribute)
            self._loaded[name] = found
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places[name] = ""
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
