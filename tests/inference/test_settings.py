"""Flags over environment over defaults, and clear refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tocsin_inference import settings
from tocsin_inference.settings import Settings, SettingsError, read


def parse(flags: str = "", **env: str) -> Settings:
    return read(flags.split(), env, "test")[1]


def test_defaults_keep_to_loopback_and_the_cpu() -> None:
    chosen = parse()
    assert (chosen.host, chosen.port, chosen.device) == ("127.0.0.1", 8000, "cpu")
    assert (chosen.max_running, chosen.max_waiting) == (16, 64)
    assert chosen.request_timeout == 300 and chosen.api_keys == ()


def test_flags_win_over_the_environment() -> None:
    chosen = parse("--port 9 --model-path ~/m", PORT="8", HOST="::1", MODEL_PATH="/x")
    assert (chosen.port, chosen.host) == (9, "::1")
    assert chosen.model_path == Path.home() / "m"


def test_the_whole_environment_is_read() -> None:
    chosen = parse(
        MODEL_PATH="/m",
        LOG_LEVEL="DEBUG",
        DEFAULT_MAX_LENGTH="9",
        DEFAULT_TEMPERATURE="0",
        DEFAULT_TOP_P="1",
        REQUEST_TIMEOUT="1.5",
        API_KEYS=" a,,b ",
        OUTPUT_ANOMALIES="true",
        TOCSIN_CACHE_DIR="/c",
    )
    assert (chosen.default_max_length, chosen.default_temperature) == (9, 0.0)
    assert chosen.output_anomalies and not parse().output_anomalies
    assert (chosen.default_top_p, chosen.request_timeout, chosen.log_level) == (1.0, 1.5, "debug")
    assert (chosen.api_keys, chosen.cache_dir) == (("a", "b"), Path("/c"))


def test_lines_are_logfmt_unless_json_is_asked_for() -> None:
    assert (parse().log_format, parse("--log-format json").log_format) == ("logfmt", "json")


def test_the_cache_follows_xdg() -> None:
    assert parse(XDG_CACHE_HOME="/x").cache_dir == Path("/x/tocsin")
    assert parse().cache_dir == Path.home() / ".cache/tocsin"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"PORT": "http"}, "PORT='http': must be a number"),
        ({"PORT": "70000"}, "PORT='70000': must be between 0 and 65535"),
        ({"DEFAULT_TEMPERATURE": "nan"}, "must be between 0.0 and 2.0"),
        ({"DEFAULT_TOP_P": "1.1"}, "DEFAULT_TOP_P='1.1'"),
        ({"REQUEST_TIMEOUT": "0"}, "REQUEST_TIMEOUT='0'"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud': must be one of"),
    ],
)
def test_what_cannot_be_used_is_named(env: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        parse(**env)


def test_no_key_is_shown() -> None:
    assert "secret" not in repr(parse(API_KEYS="secret"))


@pytest.mark.parametrize("name", settings.NOT_READ)
def test_a_variable_that_does_nothing_is_told_with_what_to_write(name: str) -> None:
    (said,) = settings.unread({name: "s3cret", "PATH": "/bin", "LOG_LEVEL": "info"})
    assert name in said and settings.NOT_READ[name] in said and "s3cret" not in said
    assert not list(settings.unread({name: ""}))


def test_what_to_write_instead_exists() -> None:
    flags = {flag for action in settings.parser("x")._actions for flag in action.option_strings}
    for instead in settings.NOT_READ.values():
        assert set(re.findall(r"--[a-z-]+", instead)) <= flags
        for variable in re.findall(r"[A-Z]+_[A-Z_]+", instead):
            assert f'"{variable}"' in Path(settings.__file__).read_text()
