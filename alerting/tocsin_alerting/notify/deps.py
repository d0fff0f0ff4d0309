"""What a channel is built from besides its own section of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.secret import Vault


@dataclass(frozen=True, slots=True)
class ChannelDeps:
    """`addresses`: the e-mail address of each contact, by its name; `hostname`: this machine's."""

    vault: Vault
    templates: MessageTemplates = field(default_factory=MessageTemplates)
    addresses: Mapping[str, str] = field(default_factory=dict)
    hostname: str = "localhost"
