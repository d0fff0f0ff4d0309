"""How often each source is read, by the configuration."""

from tocsin_alerting.config.config import Config
from tocsin_exporter import targets
from tocsin_exporter.targets import ENGINE_AREA, OWN_AREA, SCRAPE_CONFIGS, ScrapeConfig


def configured_scrapes(config: Config) -> dict[str, ScrapeConfig]:
    """By area; `0s` turns an area off, only what the agent says of itself is always read."""
    collect = config.collect
    intervals = {
        "host": collect.host / 1000,
        "gpu": collect.gpu / 1000,
        "process": collect.processes / 1000,
        ENGINE_AREA: collect.engines / 1000,
        OWN_AREA: collect.host / 1000 or SCRAPE_CONFIGS[OWN_AREA].interval,
    }
    scrapes = targets.scrape_configs(intervals, {})
    return {area: scrape for area, scrape in scrapes.items() if scrape.interval > 0}
