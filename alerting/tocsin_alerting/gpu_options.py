"""The flags about GPUs that `tocsin up` and `tocsin exporter` share."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin_alerting.listeners import WrongUsage
from tocsin_exporter.simulation.machine import Machine

if TYPE_CHECKING:  # `tocsin exporter` has none
    from tocsin_alerting.config.config import Config

log = logging.getLogger(__name__)

_SIMULATE = "--collector.gpu.simulate"
HOSTNAME_LABELS = ("none", "hostname", "Hostname")


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """`simulate` is a file or the name of a bundled one, "" for real GPUs. `drill` lets receivers
    that reach people have what simulated GPUs bring about."""

    simulate: str = ""
    hostname_label: str = HOSTNAME_LABELS[0]
    drill: bool = False

    @property
    def files(self) -> Mapping[str, Path]:
        """What is to be there, by its flag."""
        named = self.simulate and not self.simulate.startswith("bundled/")
        return {_SIMULATE: Path(self.simulate)} if named else {}

    def machine(self) -> Machine | None:
        """Raises InvalidDocument and WrongUsage."""
        if not self.simulate:
            return None
        from tocsin_alerting.config.gpu_simulation import bundled_simulations, load_simulation
        from tocsin_alerting.yaml_document import did_you_mean

        known = bundled_simulations()
        if self.files == {} and self.simulate not in known:
            near = did_you_mean(self.simulate, known) or f"; there are {', '.join(known)}"
            raise WrongUsage(f'{_SIMULATE}: there is no "{self.simulate}"{near}')
        machine = load_simulation(known.get(self.simulate, Path(self.simulate)))
        count = len(machine.gpus)
        log.warning("GPUs are simulated", extra={"file": self.simulate, "gpus": count})
        return machine

    def setup(self) -> dict[str, Any]:
        """What a `Setup` has of them. Raises as `machine`."""
        return {"gpus": self, "simulated_gpus": self.machine()}

    def hostname(self, instance: str) -> Mapping[str, str]:
        """The label that DCGM's names have besides."""
        return {} if self.hostname_label == "none" else {self.hostname_label: instance}

    def check(self, config: "Config") -> None:
        """Raises WrongUsage where these flags cannot go with the configuration."""
        if self.drill and not self.simulate:
            raise WrongUsage(f"--drill goes with {_SIMULATE}; leave it out")
        if self.simulate and not self.drill and (ways := _ways_out(config)):
            raise WrongUsage(
                f"{_SIMULATE} would page people for GPUs that are not there, by {', '.join(ways)};"
                " take a configuration without these receivers, or give --drill"
            )


def _ways_out(config: "Config") -> list[str]:
    """What brings alerts and samples to people, or to others who page by them. A heartbeat says
    that this agent lives, and nothing of GPUs."""
    from tocsin_alerting.notify.registry import RECORDS

    receivers = config.receivers.items()
    named = [name for name, one in receivers if not isinstance(one, RECORDS)]
    servers = [key for key in ("alertmanagers", "remote_write") if getattr(config, key)]
    return named + servers
