"""The settings: the environment and ``notify.toml``, read once at start and checked whole."""

from worker.settings.channels import CHANNELS, Channel, ChannelRules
from worker.settings.checks import NOT_YET, templates_of, warnings
from worker.settings.environment import Settings, load_settings, raw_variable, read_settings, settings_table
from worker.settings.model import (
    Brand,
    Campaign,
    Config,
    Fallback,
    Frequency,
    JobType,
    Limits,
    Route,
    Schedule,
    Sender,
    WhatsAppTemplate,
)
from worker.settings.problems import Problem, SettingsError
from worker.settings.quantities import Hours, Rate, parse_duration_s, parse_rate
from worker.settings.reading import load_config, parse_config
from worker.settings.routes import NO_ALPHANUMERIC
from worker.settings.variables import SCOPES, ApiKey, Role

__all__ = [
    "CHANNELS",
    "NOT_YET",
    "NO_ALPHANUMERIC",
    "SCOPES",
    "ApiKey",
    "Brand",
    "Campaign",
    "Channel",
    "ChannelRules",
    "Config",
    "Fallback",
    "Frequency",
    "Hours",
    "JobType",
    "Limits",
    "Problem",
    "Rate",
    "Role",
    "Route",
    "Schedule",
    "Sender",
    "Settings",
    "SettingsError",
    "WhatsAppTemplate",
    "load_config",
    "load_settings",
    "parse_config",
    "parse_duration_s",
    "parse_rate",
    "raw_variable",
    "read_settings",
    "settings_table",
    "templates_of",
    "warnings",
]
