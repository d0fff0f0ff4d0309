"""What a channel is built from besides its own section of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.wording import Wording


@dataclass(frozen=True, slots=True)
class Supplies:
    """`addresses`: the e-mail address of each contact, by its name; `hostname`: this machine's."""

    vault: Vault
    wording: Wording = field(default_factory=Wording)
    addresses: Mapping[str, str] = field(default_factory=dict)
    hostname: str = "localhost"
