"""`tocsin proxy`, from the command line to a checked setup."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tocsin_alerting.config.proxy_file import engine_url, load_proxy_file, proxy_options
from tocsin_alerting.config.web_file import load_web_config
from tocsin_alerting.listeners import CannotStart, WrongUsage, bind_all
from tocsin_alerting.local import data_lock
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter import logs, output
from tocsin_exporter.connections import raise_descriptor_limit
from tocsin_exporter.listen import parse
from tocsin_exporter.proxy.server import ProxyOptions
from tocsin_exporter.proxy.server import run_proxy as serve
from tocsin_exporter.web_config import LiveWebConfig, live_web_config


def run_proxy(
    upstream: str | None,
    listen_address: str,
    metrics_address: str,
    config_file: Path | None,
    web_config_file: Path | None,
    log_level: str,
    log_format: Any,
) -> int:
    """Pass requests until SIGTERM; the exit code: 2 for wrong usage, 1 for what cannot start."""
    os.umask(data_lock.PRIVATE_MASK)
    output.install()
    raise_descriptor_limit()
    logs.configure(log_level, log_format)
    try:
        options = checked(upstream, config_file, _web(web_config_file))
        check_addresses({"--listen": listen_address, "--metrics.listen": metrics_address})
        clients, metrics = bind_all([listen_address, metrics_address])
        serve(options, [clients], [metrics])
    except (InvalidDocument, CannotStart) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, WrongUsage) else 1
    return 0


def check_addresses(given: Mapping[str, str]) -> None:
    """Raises WrongUsage for an address, by its flag, that is none."""
    for flag, address in given.items():
        try:
            parse(address)
        except ValueError as error:
            raise WrongUsage(f"{flag}: {error}") from None


def checked(upstream: str | None, config_file: Path | None, web: LiveWebConfig) -> ProxyOptions:
    """What the flags and the file want. Raises InvalidDocument or CannotStart."""
    file = load_proxy_file(config_file)
    url = upstream or file.upstream
    if not url:
        raise WrongUsage("which engine? give its URL: --upstream http://127.0.0.1:8080")
    try:
        engine_url(url)
    except ValueError as error:
        raise WrongUsage(f"--upstream: {error}") from None
    try:
        return proxy_options(file, url, web)
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"cannot use a file of the proxy's configuration: {error}") from None


def _web(file: Path | None) -> LiveWebConfig:
    return LiveWebConfig() if file is None else live_web_config(partial(load_web_config, file))
