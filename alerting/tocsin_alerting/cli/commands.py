"""`tocsin`: the whole agent, or its parts alone."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tocsin_alerting.cli import output
from tocsin_alerting.cli.collector_options import collector_options
from tocsin_alerting.cli.import_config import import_config
from tocsin_alerting.cli.service import service
from tocsin_exporter.collector_settings import HostView

F = TypeVar("F", bound=Callable[..., Any])


class Once(click.Command):
    """A command whose options are given once, if they take one value: the second would win."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for option in self.params:
            if isinstance(option, click.Option) and not (option.multiple or option.is_flag):
                given = [a for a in args if a.partition("=")[0] in option.opts]
                if len(given) > 1:
                    raise click.UsageError(f"{option.opts[0]} is given twice; give it once", ctx)
        return super().parse_args(ctx, args)


def _web(command: F) -> F:
    command = click.option("--web.max-requests", "max_requests", default=40, show_default=True,
                           type=click.IntRange(min=0), help="Maximum number of "
                           "concurrent scrapes of /metrics; others get 503. 0 means no limit.",
                           envvar="TOCSIN_WEB_MAX_REQUESTS")(command)  # fmt: skip
    command = click.option("--web.max-connections", "max_connections", default=2048,
                           show_default=True, type=click.IntRange(min=1), help="Maximum number of "
                           "open connections, half of them from one address; never more than half "
                           "of the process's limit on open files.")(command)  # fmt: skip
    command = click.option("--web.config.file", "web_config_file", envvar="TOCSIN_WEB_CONFIG_FILE",
                           type=click.Path(path_type=Path), help="File in exporter-toolkit's "
                           "format: TLS, users for basic auth, headers.  "
                           "[default: none]")(command)  # fmt: skip
    command = click.option(
        "--web.telemetry-path",
        "telemetry_path",
        default="/metrics",
        show_default=True,
        help="Path of the metrics page.",
    )(command)
    command = click.option("--web.systemd-socket", "systemd_socket", is_flag=True, help="Serve on "
                           "the sockets that systemd passes, instead of addresses of "
                           "our own.")(command)  # fmt: skip
    return click.option("--web.listen-address", "listen_addresses", multiple=True,
                        envvar="TOCSIN_WEB_LISTEN_ADDRESS", help="Address to serve on; may be "
                        "repeated.  [default: 127.0.0.1:4911]")(command)  # fmt: skip


def _gpus(command: F) -> F:
    command = click.option("--collector.gpu.simulate", "gpu_simulate", default="", metavar="FILE",
                           help="Read simulated GPUs, as FILE describes them or "
                           "bundled/h100-8x or bundled/geforce-rtx; all their series have "
                           "simulated=\"true\".  [default: none]")(command)  # fmt: skip
    labels = click.Choice(["none", "hostname", "Hostname"])
    return click.option("--collector.gpu.hostname-label", "gpu_hostname_label", type=labels,
                        default="none", show_default=True, help="Label with the name of this "
                        "machine on DCGM's metrics, as dcgm-exporter has it.")(command)  # fmt: skip


def _logging(command: F) -> F:
    levels = click.Choice(["debug", "info", "warn", "error"])
    command = click.option("--log.level", "log_level", type=levels, default="info",
                           show_default=True, envvar="TOCSIN_LOG_LEVEL",
                           help="Log messages of this level and above.")(command)  # fmt: skip
    formats = click.Choice(["logfmt", "json"])
    return click.option("--log.format", "log_format", type=formats, default="logfmt",
                        show_default=True, envvar="TOCSIN_LOG_FORMAT",
                        help="Format of log lines.")(command)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tocsin", prog_name="tocsin")
def tocsin() -> None:
    """Watch a self-hosted LLM, from metric to page."""
    output.prepare()


tocsin.add_command(service)
tocsin.add_command(import_config)


@tocsin.command(cls=Once)
@click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="TOCSIN_CONFIG_FILE",
    help="Configuration file in YAML; every key has a default.  [default: none]",
)
@click.option(
    "--storage.path",
    "storage_path",
    envvar="TOCSIN_STORAGE_PATH",
    help="Data directory: incidents, samples and history.  [default: data]",
)
@_web
@click.option(
    "--engine.url",
    "engine_urls",
    multiple=True,
    help="Watch this inference engine; may be repeated. Turns discovery and the demo worker off."
    "  [default: discover engines]",
)
@click.option(
    "--engine.port",
    "engine_ports",
    multiple=True,
    type=click.IntRange(1, 65535),
    help="Look for an engine on this local port; may be repeated."
    "  [default: 8000, 30000, 3000, 8080, 11434, 23333]",
)
@click.option(
    "--web.open",
    "web_open",
    is_flag=True,
    help="Let everybody who can connect read; changes still need this machine or a token.",
)
@click.option("--no-worker", is_flag=True, help="Never start the demo worker.")
@click.option(
    "--worker.device",
    "worker_device",
    type=click.Choice(["cpu", "cuda"]),
    help="Run the demo worker's model on this device.  [default: cpu]",
)
@click.option(
    "--load",
    "load_rps",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RPS",
    help="Send RPS real chat requests per second to an engine.  [default: none]",
)
@click.option(
    "--promql.semantics",
    "promql_semantics",
    type=click.Choice(["2", "3"]),
    callback=lambda _, __, value: value and int(value),
    help="PromQL semantics of queries and rules: Prometheus 2.42 or 3.  [default: 3]",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse to start when a rule file is broken, instead of running its last good copy.",
)
@_gpus
@click.option("--drill", is_flag=True,
              help="Let alerts of simulated GPUs reach real receivers.")  # fmt: skip
@collector_options
@_logging
def up(log_level: str, log_format: str, **options: Any) -> None:
    """Start the agent, and the demo worker if no engine is found.

    Ctrl-C and SIGTERM stop both within 5 seconds.
    """
    from tocsin_alerting.startup import UpOptions, run  # what --help does not need

    sys.exit(run(UpOptions(**options), log_level, log_format))


@tocsin.command(cls=Once)
@_web
@click.option("--engine.url", "engine_urls", multiple=True,
              help="Watch this inference engine; may be repeated.  [default: none]")  # fmt: skip
@click.option("--logs.config", "logs_config", type=click.Path(path_type=Path),
              help="File with the key logs, as in the configuration: logs to read.  "
              "[default: none]")  # fmt: skip
@click.option("--logs.positions", "logs_positions", type=click.Path(path_type=Path),
              help="Directory for how far logs were read, for a restart.  "
              "[default: not kept]")  # fmt: skip
@click.option("--probe.config.file", "probe_modules", type=click.Path(path_type=Path),
              help="Serve /probe with these modules, in blackbox_exporter's format.  "
              "[default: none]")  # fmt: skip
@_gpus
@collector_options
@_logging
def exporter(
    listen_addresses: tuple[str, ...],
    max_requests: int,
    max_connections: int,
    web_config_file: Path | None,
    systemd_socket: bool,
    telemetry_path: str,
    engine_urls: tuple[str, ...],
    logs_config: Path | None,
    logs_positions: Path | None,
    probe_modules: Path | None,
    gpu_simulate: str,
    gpu_hostname_label: str,
    log_level: str,
    log_format: Any,
    machine: HostView,
) -> None:
    """Serve metrics only: host, GPUs, processes and the engines given by --engine.url."""
    from tocsin_alerting.exporter_startup import run_exporter

    options = (listen_addresses, max_requests, max_connections, web_config_file)
    served = (systemd_socket, telemetry_path, engine_urls)
    gpus = (gpu_simulate, gpu_hostname_label)
    files = (logs_config, logs_positions), probe_modules
    sys.exit(run_exporter(*options, *served, machine, gpus, *files, log_level, log_format))


@tocsin.command(cls=Once)
@click.option("--upstream", metavar="URL", help="The engine behind the proxy.  [default: that of "
              "the configuration]")  # fmt: skip
@click.option("--listen", "listen_address", default="127.0.0.1:4913", show_default=True,
              metavar="ADDRESS", help="Address for the engine's clients.")  # fmt: skip
@click.option("--metrics.listen", "metrics_address", default="127.0.0.1:4914", show_default=True,
              metavar="ADDRESS", help="Address of the proxy's own /metrics.")  # fmt: skip
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
              help="Limits, keys of clients, access log, in YAML.  [default: none]")  # fmt: skip
@click.option("--web.config.file", "web_config_file", type=click.Path(path_type=Path),
              help="File in exporter-toolkit's format: TLS for the engine's clients.  "
              "[default: none]")  # fmt: skip
@_logging
def proxy(
    upstream: str | None,
    listen_address: str,
    metrics_address: str,
    config_file: Path | None,
    web_config_file: Path | None,
    log_level: str,
    log_format: Any,
) -> None:
    """Pass requests to an engine unchanged, and measure them on the way."""
    from tocsin_alerting.proxy_startup import run_proxy

    files = (config_file, web_config_file)
    sys.exit(run_proxy(upstream, listen_address, metrics_address, *files, log_level, log_format))


@tocsin.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run the inference worker alone (`worker --help`), or fetch its model (`worker fetch`)."""
    from tocsin_alerting.local.worker_process import become_worker

    become_worker(arguments)
