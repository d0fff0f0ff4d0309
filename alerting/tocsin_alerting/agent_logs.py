"""The logs that the agent reads, from the configuration to what incidents keep of their lines."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.log_sources import LogSection
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.snapshot import Sample
from tocsin_exporter.tailing.log_sources import NAME, LogSources

log = logging.getLogger(__name__)


class AgentLogs:
    """Positions are kept in the data directory, below `logs`."""

    def __init__(self, config: Config, clock: Clock) -> None:
        directory = Path(config.storage.path) / "logs"
        self.sources = LogSources(directory, clock.wall, clock.monotonic)
        self._sections: Sequence[LogSection] = ()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Read these from now on; those that are as they were go on."""
        self._sections = config.logs
        self.sources.configure([section.source() for section in config.logs])

    def collector(self) -> InlineCollector:
        return InlineCollector(NAME, self._samples)

    def _samples(self) -> Iterator[Sample]:
        return self.sources.samples()
