"""`tocsin proxy`, from the command line to a checked setup."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from tocsin_alerting.config.proxy_file import engine_url, load_proxy_file, proxy_options
from tocsin_alerting.config.web_file import load_web_config
from tocsin_alerting.listeners import CannotStart, WrongUsage, bind_all, check_address
from tocsin_alerting.process_setup import prepare_process
from tocsin_alerting.yaml_document import InvalidDocument
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
    prepare_process(log_level, log_format)
    try:
        options = checked(upstream, config_file, _web(web_config_file))
        given = {"--listen": listen_address, "--metrics.listen": metrics_address}
        for flag, address in given.items():
            check_address(address, flag)
        clients, metrics = bind_all(list(given.values()), list(given))
        serve(options, [clients], [metrics])
    except (InvalidDocument, CannotStart) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, WrongUsage) else 1
    return 0


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
