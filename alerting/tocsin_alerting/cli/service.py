"""`tocsin service`: the agent as a systemd service, for the machine or for one user."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from tocsin_alerting.local import service_unit as units

NOT_RUNNING = 3  # as systemctl status
_OPTIONS = (
    click.option("--user", is_flag=True, help="Manage a service of your own user; needs no root."),
    click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Work below this directory, for an image; start and stop nothing.",
    ),
)
_SHOWN = ("LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "UnitFileState",
          "ActiveEnterTimestamp", "Result", "StatusText")  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServiceScope:
    """Whose service is meant."""

    user: bool
    root: Path | None

    @property
    def places(self) -> units.ServicePaths:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return units.service_paths(self.root or Path("/"), home if self.user else None)

    @property
    def live(self) -> bool:
        """Whether there is a systemd here to be told."""
        return self.root is None and units.systemd_runs()

    def systemctl(self, *words: str) -> str:
        return units.run_systemd("systemctl", *(["--user"] if self.user else []), *words)


def _on(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def service() -> None:
    """Run the agent as a systemd service: started at boot, restarted, watched."""


@service.command(context_settings={"ignore_unknown_options": True})
@_on
@click.option("--with-worker", is_flag=True, help="Let the service start the demo worker too.")
@click.option(
    "--program",
    type=click.Path(path_type=Path),
    help="Run this `tocsin` program as the service.  [default: this one]",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def install(
    user: bool,
    root: Path | None,
    with_worker: bool,
    program: Path | None,
    arguments: tuple[str, ...],
) -> None:
    """Write the unit, enable it and start it; ARGUMENTS are passed to `tocsin up`.

    Run it again after an upgrade or to change ARGUMENTS; configuration and data stay.
    """
    target = _target(user, root)
    extra = _extra(with_worker, arguments, target)
    _check_arguments(extra, target)
    started = program or Path(sys.executable).parent / "tocsin"
    if root is None and not user:
        _check_program(started)
    places = target.places
    _check_foreign(places.unit)
    config = "%E/tocsin/tocsin.yml"
    try:
        _write(places, units.unit_text(started, config, extra, user))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    print(f"wrote {places.unit}")
    _start(target) if target.live else print(_not_started(target))


def _extra(with_worker: bool, arguments: Sequence[str], target: ServiceScope) -> list[str]:
    """The arguments of `tocsin up` in the unit besides those that are the service's own."""
    for word in arguments:
        option = word.partition("=")[0]
        if option == "--config.file":
            raise click.UsageError(f"leave out {option}: the service reads {target.places.config}")
        if option == "--storage.path":
            raise click.UsageError(
                f"leave out {option}: systemd keeps the service's data in the state directory"
                " tocsin (StateDirectory=)"
            )
    none = "--no-worker" in arguments
    if with_worker and none:
        raise click.UsageError("--with-worker and --no-worker exclude each other: give one")
    return [*([] if with_worker or none else ["--no-worker"]), *arguments]


def _start(target: ServiceScope) -> None:
    try:
        if not target.user:
            units.run_systemd("systemd-sysusers", str(target.places.sysusers))
        target.systemctl("daemon-reload")
        target.systemctl("enable", units.UNIT)
        target.systemctl("restart", units.UNIT)
    except units.SystemdRefused as error:
        _fail(f"{error}\nsee: journalctl {'--user ' if target.user else ''}-u tocsin -n 50")
    print("started; it starts at each boot")
    if target.user:
        print("to keep it running while you are logged out: loginctl enable-linger")


def _not_started(target: ServiceScope) -> str:
    if target.root is not None:
        return "it starts when a machine boots from there"
    return "systemd is not running on this machine: nothing was started"


def _installer() -> str:
    """Who became root to install: sudo and pkexec say so."""
    return os.environ.get("SUDO_UID") or os.environ.get("PKEXEC_UID") or ""


@service.command()
@_on
def remove(user: bool, root: Path | None) -> None:
    """Stop the service and remove its unit; configuration and data stay."""
    target = _target(user, root)
    places = target.places
    _check_foreign(places.unit)
    files = [path for path in (places.wanted, places.unit, places.sysusers) if _is_there(path)]
    if not files:
        print(f"nothing to remove: there is no {places.unit}")
        return
    try:
        if target.live and places.unit.exists():
            target.systemctl("disable", "--now", units.UNIT)
        for file in filter(None, files):
            file.unlink(missing_ok=True)
        if target.live:
            target.systemctl("daemon-reload")
    except units.SystemdRefused as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    print(f"removed {places.unit}; {places.config} and the data stay")


def _is_there(file: Path | None) -> bool:
    return file is not None and (file.exists() or file.is_symlink())


@service.command()
@_on
def status(user: bool, root: Path | None) -> None:
    """Show whether the service is installed, enabled and running; exit code 3 if not running."""
    target = ServiceScope(user, root)
    unit = target.places.unit
    if not unit.exists():
        print(f"not installed: there is no {unit}")
        sys.exit(NOT_RUNNING)
    print(f"unit      {unit}")
    if not target.live:
        print(f"enabled   {'yes' if target.places.wanted.is_symlink() else 'no'}")
        print(_not_started(target))
        sys.exit(NOT_RUNNING)
    sys.exit(_report(target))


def _report(target: ServiceScope) -> int:
    """What systemd says of it, in four lines; the exit code."""
    try:
        shown = target.systemctl("show", units.UNIT, *(f"--property={name}" for name in _SHOWN))
    except units.SystemdRefused as error:
        _fail(str(error))
    lines = (line.partition("=") for line in shown.splitlines())
    facts = {name: value for name, _, value in lines}
    print(f"enabled   {facts.get('UnitFileState', '')}")
    print(f"state     {facts.get('ActiveState', '')} ({facts.get('SubState', '')})"
          f" since {facts.get('ActiveEnterTimestamp') or '-'}")  # fmt: skip
    print(f"pid       {facts.get('MainPID', '')}, restarted {facts.get('NRestarts', '0')} times")
    print(f"says      {facts.get('StatusText') or facts.get('Result', '')}")
    return 0 if facts.get("ActiveState") == "active" else NOT_RUNNING


def _target(user: bool, root: Path | None) -> ServiceScope:
    if user and root is not None:
        raise click.UsageError("--user and --root cannot be used together")
    if not user and root is None and os.geteuid() != 0:
        _fail("a system service needs root: use sudo, or --user for a service of your own")
    return ServiceScope(user, root)


def _check_arguments(arguments: Sequence[str], target: ServiceScope) -> None:
    """What would be wrong usage at the start is so now, and what is wrong in the configuration."""
    from click.core import ParameterSource

    from tocsin_alerting.cli.commands import up
    from tocsin_alerting.listeners import WrongUsage
    from tocsin_alerting.startup import UpOptions, load_config, rule_files
    from tocsin_alerting.yaml_document import InvalidDocument

    words = ["--config.file", "tocsin.yml", "--storage.path", "data", *arguments]
    context = up.make_context("tocsin up", words)
    ours = (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT)  # not those of the service
    given = {k: v for k, v in context.params.items() if context.get_parameter_source(k) not in ours}
    options = {k: v for k, v in given.items() if k not in ("log_level", "log_format")}
    if options.get("systemd_socket"):
        raise click.UsageError(
            "--web.systemd-socket needs a socket unit, which is not written here; add it, and the"
            " flag by systemctl edit tocsin (docs/service.md)"
        )
    config = target.places.config
    try:
        options["config_file"] = config if config.exists() else None
        rule_files(load_config(UpOptions(**options)))
    except WrongUsage as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        _fail(f"{config}: {error.strerror}")
    except InvalidDocument as error:
        _refuse_configuration(error, target)


def _refuse_configuration(error: Exception, target: ServiceScope) -> None:
    """Of an image it is only said: its absolute paths are those of another machine."""
    print(error, file=sys.stderr)
    if target.root is None:
        _fail(
            "nothing was written or started: the agent would not start with this configuration."
            " Environment variables that it names must be set for this command too"
        )
    print("tocsin service: the agent would not start with this configuration", file=sys.stderr)


def _check_program(program: Path) -> None:
    """The service has a user of its own, who must be able to read what it starts."""
    if not program.exists():
        _fail(f"{program}: no such program; name it with --program")
    for path in (program, Path(sys.executable).resolve(), Path(__file__)):
        closed = units.unreadable_part(path)
        if closed is not None:
            _fail(
                f"{closed} is not readable by other users, and the service runs as user tocsin:\n"
                "install into a directory that all users can read, for example\n"
                "  python3 -m venv /opt/tocsin && /opt/tocsin/bin/pip install WHEEL &&"
                " /opt/tocsin/bin/tocsin service install"
            )


def _check_foreign(unit: Path) -> None:
    """A unit that somebody wrote is not ours to replace."""
    try:
        if not unit.read_text(encoding="utf-8").startswith(units.HEADER):
            _fail(f"{unit} was not written by `tocsin service install`: move it away first")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{unit}: {error}")


def _write(places: units.ServicePaths, text: str) -> None:
    _put(places.unit, text)
    if places.sysusers is not None:
        _put(places.sysusers, units.SYSUSERS)
    if not places.config.exists():
        _put(places.config, units.CONFIG)
    places.wanted.parent.mkdir(parents=True, exist_ok=True)
    if not places.wanted.is_symlink():
        places.wanted.symlink_to(f"../{units.UNIT}")


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)


def _fail(message: str) -> NoReturn:
    print(f"tocsin service: {message}", file=sys.stderr)
    sys.exit(1)
