"""The configuration: one strict file, every error at its place, secrets elsewhere."""

from tocsin_alerting.config.config import BUNDLED_RULES, Config
from tocsin_alerting.config.files import rule_paths
from tocsin_alerting.config.load import build_channels, incident_config, load

__all__ = ["BUNDLED_RULES", "Config", "build_channels", "incident_config", "load", "rule_paths"]
