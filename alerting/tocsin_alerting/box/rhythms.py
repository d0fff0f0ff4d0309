"""How often each source is read, by the configuration."""

from tocsin_alerting.config.config import Config
from tocsin_exporter import watches
from tocsin_exporter.watches import ENGINE_AREA, OWN_AREA, RHYTHMS, Rhythm


def rhythms(config: Config) -> dict[str, Rhythm]:
    """By area; `0s` turns an area off, only what the agent says of itself is always read."""
    collect = config.collect
    intervals = {
        "host": collect.host / 1000,
        "gpu": collect.gpu / 1000,
        "process": collect.processes / 1000,
        ENGINE_AREA: collect.engines / 1000,
        OWN_AREA: collect.host / 1000 or RHYTHMS[OWN_AREA].interval,
    }
    found = watches.rhythms(intervals, {})
    return {area: one for area, one in found.items() if one.interval > 0}
