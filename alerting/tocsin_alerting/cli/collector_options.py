"""node_exporter's flags for what is read of the machine, of `tocsin exporter` and `tocsin up`."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from tocsin_exporter.collector_settings import (
    AREAS,
    ENABLED,
    IPVS_LABELS,
    LISTS,
    PATTERNS,
    SWITCHES,
    CollectorSettings,
    HostView,
    InvalidSetting,
)

F = TypeVar("F", bound=Callable[..., Any])

_DIRECTORY = "textfile.directory"
_LABELS = "ipvs.backend-labels"
_NONE_BUT = "disable-defaults"
_PATHS = {  # by option: what it is for, and the default
    "procfs": ("proc filesystem of the machine", "/proc"),
    "sysfs": ("sys filesystem of the machine", "/sys"),
    "rootfs": ("root directory of the machine", "/"),
    "udev.data": ("data directory of udev", "/run/udev/data"),
}
_NAMES = (
    *(f"path.{name}" for name in _PATHS),
    *AREAS,
    *ENABLED,
    *(_NONE_BUT, _DIRECTORY, _LABELS),
    *LISTS,
    *SWITCHES,
    *PATTERNS,
)


def _dest(name: str) -> str:
    """The name of an option as Python can have it."""
    return "collector_" + name.replace(".", "_").replace("-", "_")


def collector_options(command: F) -> F:
    """Adds the flags; the command gets a `HostView` as `machine`. Wrong ones are wrong usage."""

    @wraps(command)
    def with_view(**options: Any) -> Any:
        given = {name: options.pop(_dest(name)) for name in _NAMES}
        try:
            machine = _view(given)
        except InvalidSetting as error:
            raise click.UsageError(str(error)) from None
        return command(**options, machine=machine)

    made: Any = with_view
    for option in reversed(_declared()):
        made = option(made)
    return made  # type: ignore[no-any-return]


def _declared() -> list[Callable[[F], F]]:
    return [
        *(_path(name, what, usual) for name, (what, usual) in _PATHS.items()),
        *(_switch(area, "Read", True) for area in AREAS),
        *(_switch(name, "Read", on) for name, on in ENABLED.items()),
        _flag(_NONE_BUT, "Read nothing of the host but what --collector.NAME names."),
        *(_switch_of(name) for name in SWITCHES),
        *(_pattern(name, usual) for name, usual in PATTERNS.items()),
        *(_list(name, what) for name, what in LISTS.items()),
        click.option(f"--collector.{_LABELS}", _dest(_LABELS), default=",".join(IPVS_LABELS),
                     show_default=True, metavar="LABELS",
                     help="Tell the servers behind IPVS apart by these labels alone."),
        click.option(f"--collector.{_DIRECTORY}", _dest(_DIRECTORY), default="",
                     metavar="DIRECTORY", help="Pass on the metrics of the *.prom files in this "
                     "directory, or in those that a pattern means.  [default: none]"),
    ]  # fmt: skip


def _path(name: str, what: str, usual: str) -> Callable[[F], F]:
    return click.option(f"--path.{name}", _dest(f"path.{name}"), default=usual,
                        show_default=True, type=click.Path(path_type=Path), metavar="DIRECTORY",
                        help=f"Read the {what} here.")  # fmt: skip


def _switch(name: str, verb: str, on: bool) -> Callable[[F], F]:
    usual = "enabled" if on else "disabled"
    return click.option(f"--collector.{name}/--no-collector.{name}", _dest(name),
                        default=None, help=f"{verb} {name}.  [default: {usual}]")  # fmt: skip


def _flag(name: str, help: str) -> Callable[[F], F]:
    return click.option(f"--collector.{name}", _dest(name), is_flag=True, help=help)


def _switch_of(name: str) -> Callable[[F], F]:
    return _flag(name, SWITCHES[name])


def _pattern(name: str, usual: str) -> Callable[[F], F]:
    of, _, what = name.partition(".")
    which = "Keep only" if what.endswith(("-include", "fields")) else "Leave out"
    things = what.removesuffix("-include").removesuffix("-exclude").removeprefix("ignored-")
    things = re.sub(r"[-.]", " ", things).removesuffix("s") + "s"
    default = "none" if usual == "" else usual
    return click.option(f"--collector.{name}", _dest(name), metavar="REGEXP",
                        help=f"{which} {things} of {of} that match.  "
                        f"[default: {default}]")  # fmt: skip


def _list(name: str, what: str) -> Callable[[F], F]:
    return click.option(f"--collector.{name}", _dest(name), metavar="NAME", multiple=True,
                        help=f"{what} May be given several times.  [default: none]")  # fmt: skip


def _view(given: dict[str, Any]) -> HostView:
    settings = CollectorSettings(
        patterns={name: given[name] for name in PATTERNS if given[name] is not None},
        switches=frozenset(name for name in SWITCHES if given[name]),
        lists={name: given[name] for name in LISTS if given[name]},
        ipvs_labels=tuple(given[_LABELS].split(",")),
        textfile_directory=given[_DIRECTORY],
        collectors={name: given[name] for name in ENABLED if given[name] is not None},
        areas_off=frozenset(area for area in AREAS if given[area] is False),
        disable_defaults=given[_NONE_BUT],
    )
    proc, sys, root, udev = (given[f"path.{name}"] for name in _PATHS)
    return HostView(settings, proc, sys, root, udev)
