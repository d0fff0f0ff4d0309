"""The environment variables that are read here, and those that do nothing: a start says so."""

import logging
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tocsin_alerting.local import service_unit

if TYPE_CHECKING:  # `tocsin exporter` has none
    from tocsin_alerting.config.config import Config

log = logging.getLogger(__name__)

VARIABLES = (  # those of the command line, and the worker's
    *("TOCSIN_CONFIG_FILE", "TOCSIN_STORAGE_PATH", "TOCSIN_WEB_LISTEN_ADDRESS"),
    *("TOCSIN_WEB_MAX_REQUESTS", "TOCSIN_LOG_LEVEL", "TOCSIN_LOG_FORMAT", "TOCSIN_CACHE_DIR"),
    *("TOCSIN_WEB_CONFIG_FILE", service_unit.INSTALLED_BY),
)
_EXPORTER_VARIABLES = {  # variables of other monitors and servers, and what to write instead
    "GPU_COLLECT_INTERVAL": "write collect: {gpu: 1s} in the configuration of `tocsin up`",
    "METRICS_PORT": "write --web.listen-address",
    "PORT": "write --web.listen-address",
    "ALERT_WEBHOOK_URL": "name it in the configuration of `tocsin up`:"
    " receivers: {NAME: {type: webhook, url_env: ALERT_WEBHOOK_URL}}",
    "ALERT_EMAIL": "write contacts: {NAME: {email: ...}} in the configuration of `tocsin up`",
}
_WORKER_VARIABLES = {  # those that only our own worker reads
    "API_KEYS": "set an engine's key in its bearer_token_file, the agent's own in web.token_file",
    "MODEL_PATH": "write worker: {model_path: ...}, or name the engine that serves it",
}


def warn_of_variables(env: Mapping[str, str]) -> None:
    """A misspelt variable would be ignored without a word."""
    for name in env:
        if name.startswith("TOCSIN_") and name not in VARIABLES:
            for meant in get_close_matches(name, VARIABLES, 1, 0.8):
                log.warning("unknown environment variable %s; did you mean %s?", name, meant)


def warn_of_unread(env: Mapping[str, str], read: Collection[str]) -> None:
    """Variables that do nothing here, `read` aside; never with their values."""
    for name, instead in {**_EXPORTER_VARIABLES, **_WORKER_VARIABLES}.items():
        if env.get(name) and name not in read:
            log.warning("environment variable %s has no effect here: %s", name, instead)


def variables_read(config: "Config") -> set[str]:
    """Those that the configuration names, and those that a worker of ours may read."""
    beats = (*config.heartbeats.out, *config.heartbeats.expected.values())
    sections = filter(None, [*config.receivers.values(), config.smtp, *beats])
    named = {
        getattr(section, key)
        for section in sections
        for key in section.model_fields_set
        if key.endswith("_env")
    }
    if not config.worker.enabled or config.engines:
        return named
    return named | {"API_KEYS", *(() if config.worker.model_path else ("MODEL_PATH",))}
