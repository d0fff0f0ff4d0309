"""`tocsin exporter`, from the command line to a checked setup.

Light on purpose: it runs beside a model that wants the memory. The agent's configuration, with
rules, receivers and all that they load, is none of it; what a flag alone needs is loaded with it.
"""

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin_alerting import malloc
from tocsin_alerting.gpu_options import GpuOptions
from tocsin_alerting.listeners import (
    CannotStart,
    WrongUsage,
    bind_all,
    check_telemetry_path,
    take_over,
)
from tocsin_alerting.local.environment import warn_of_unread, warn_of_variables
from tocsin_alerting.process_setup import prepare_process
from tocsin_exporter.collector_settings import HostView
from tocsin_exporter.exporter import DEFAULT_ADDRESS, ExporterOptions
from tocsin_exporter.exporter import run_exporter as serve
from tocsin_exporter.web_config import LiveWebConfig, live_web_config

if TYPE_CHECKING:
    from tocsin_exporter.tailing.settings import LogSource


def run_exporter(
    listen_addresses: Sequence[str],
    max_requests: int,
    max_connections: int,
    web_config_file: Path | None,
    systemd_socket: bool,
    telemetry_path: str,
    engine_urls: Sequence[str],
    machine: HostView,
    gpu_options: tuple[str, str],
    tailed: tuple[Path | None, Path | None],
    probe_modules: Path | None,
    log_level: str,
    log_format: Any,
) -> int:
    """`tocsin exporter`: the metrics alone; the exit code, as of `run`.

    `gpu_options` are those of `GpuOptions`, `tailed` those of `--logs`.
    """
    malloc.use_one_arena(os.environ)
    prepare_process(log_level, log_format)
    warn_of_variables(os.environ)
    warn_of_unread(os.environ, ())
    try:
        check_telemetry_path(telemetry_path)
        sockets, addresses = take_over(os.environ, systemd_socket, listen_addresses)
        addresses = addresses or [DEFAULT_ADDRESS]
        engines = [engine.access for engine in engine_sections(engine_urls)]
        gpus = GpuOptions(*gpu_options)
        logs_config, positions = tailed
        named = {"--web.config.file": web_config_file, "--logs.config": logs_config}
        check_files({**named, "--probe.config.file": probe_modules, **gpus.files})
        options = ExporterOptions(
            addresses,
            max_requests=max_requests,
            max_connections=max_connections,
            telemetry_path=telemetry_path,
            machine=machine,
            engines=engines,
            web=_web(web_config_file),
            simulated_gpus=gpus.machine(),
            gpu_hostname=gpus.hostname(socket.gethostname()),
            logs=_logs(logs_config),
            log_positions=positions,
            probe_modules=_modules(probe_modules),
        )
        bound = sockets or bind_all(addresses)
    except (ValueError, CannotStart) as error:  # InvalidDocument is one, and loads YAML
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, WrongUsage) else 1
    malloc.freeze_gc()
    serve(options, bound)
    return 0


def _web(file: Path | None) -> LiveWebConfig:
    if file is None:
        return LiveWebConfig()
    from tocsin_alerting.config.web_file import load_web_config

    return live_web_config(partial(load_web_config, file))


def _logs(file: Path | None) -> "Sequence[LogSource]":
    if file is None:
        return ()
    from tocsin_alerting.config.log_sources import load_logs_file

    return load_logs_file(file)


def _modules(file: Path | None) -> Mapping[str, Any]:
    if file is None:
        return {}
    from tocsin_alerting.config.probe_modules import load_modules

    return load_modules(file)


def check_files(given: Mapping[str, Path | None]) -> None:
    """Raises WrongUsage for a file, by its flag, that is not there."""
    for flag, file in given.items():
        if file and not file.exists():
            raise WrongUsage(f"{flag} {file}: no such file")


def engine_sections(urls: Sequence[str]) -> tuple[Any, ...]:
    """Each engine once. Raises WrongUsage, which shows no password and no key."""
    if not urls:
        return ()
    from tocsin_alerting.config.watching import WITH_FRAGMENT, EngineSection
    from tocsin_exporter.engine_access import place

    engines: dict[str, EngineSection] = {}
    for url in urls:
        try:
            engine = EngineSection(url=url)
        except ValueError:
            shown = re.split("[?#]", url)[0] if "@" not in url else "(with a login)"
            problem = WITH_FRAGMENT if "#" in url else "not a URL like http://127.0.0.1:8000"
            raise WrongUsage(f"--engine.url {shown}: {problem}") from None
        engines.setdefault(place(engine.access.target), engine)
    return tuple(engines.values())
