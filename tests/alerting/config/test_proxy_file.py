"""The files of `tocsin proxy`: what they set, and what is wrong with them, at its place."""

import re
from pathlib import Path

import pytest

from tocsin_alerting.config.proxy_file import load_keys, load_proxy_file, proxy_options
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.web_config import LiveWebConfig

PAGE = (Path(__file__).parents[3] / "docs" / "proxy.md").read_text("utf-8")
EXAMPLE = re.findall(r"(?ms)^```yaml\n(.*?)^```", PAGE)
KEY = "0123456789abcdef-secret"
GOLDEN = "golden_prompts:\n  model: m\n  prompts: "
ONE = "{name: a, prompt: b, expect: {contains: [c]}}"


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "proxy.yml"
    file.write_text(text, "utf-8")
    file.chmod(mode)
    return file


def test_the_example_of_the_page_names_every_key(tmp_path: Path) -> None:
    file = load_proxy_file(written(tmp_path, EXAMPLE[0]))
    assert file.model_fields_set == set(type(file).model_fields)
    assert file.limits.model_fields_set == set(type(file.limits).model_fields)
    assert file.access_log is not None
    assert file.access_log.model_fields_set == set(type(file.access_log).model_fields)
    assert file.golden_prompts is not None
    assert file.golden_prompts.model_fields_set == set(type(file.golden_prompts).model_fields)
    prompts = file.golden_prompts.prompts
    for sections in (prompts, [prompt.expect for prompt in prompts]):
        said = {name for section in sections for name in section.model_fields_set}
        assert said == set(type(sections[0]).model_fields)


def test_golden_prompts_become_what_is_asked(tmp_path: Path) -> None:
    file = load_proxy_file(
        written(
            tmp_path,
            EXAMPLE[0].split("limits:")[0].split("upstream_key")[0]
            + EXAMPLE[0][EXAMPLE[0].index("output_anomalies") :],
        )
    )
    options = proxy_options(file, "http://a", LiveWebConfig())
    assert options.judges_answers
    assert options.golden is not None
    assert (options.golden.model, options.golden.every, options.golden.seconds) == (
        "smollm2",
        300,
        60,
    )
    first, second, third = options.golden.prompts
    assert (first.name, first.system, first.max_tokens) == ("capital", "Answer in one word.", 16)
    assert first.expect.contains == ("Paris",)
    assert second.expect.regex is not None
    assert second.expect.json_keys == ("name", "bits")
    assert second.expect.json_schema is not None
    assert second.expect.json_schema({"bits": 256})
    assert not second.expect.json_schema({"bits": 7})
    assert third.expect.least == 0.5


def test_the_file_becomes_what_the_proxy_takes(tmp_path: Path) -> None:
    text = "upstream_host: localhost\nlimits: {running: 3, of_client: 2, body: 1MiB, request: 90s}"
    file = load_proxy_file(written(tmp_path, text))
    options = proxy_options(file, "http://[::1]:8080/base/", LiveWebConfig())
    assert options.upstream.target == "[::1]:8080/base"
    assert options.upstream_host == "localhost"
    assert (options.limits.body_bytes, options.limits.request_seconds) == (1 << 20, 90)
    assert (options.limits.slots.running, options.limits.slots.of_client) == (3, 2)
    assert not options.keys()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("upstram: http://a", ':1:1: unknown key "upstram"; did you mean "upstream"?'),
        ("limits:\n  body: 5", ":2:9: limits.body: not a size"),
        ("upstream: http://u:secret@a", "write the URL without user"),
        ("upstream: ftp://a", "not a URL"),
        ("upstream_host: 'a b'", "upstream_host"),
        (GOLDEN + "[]", "golden_prompts.prompts: must not be empty"),
        (GOLDEN + "[{name: a, prompt: b, expect: {}}]", "give one of contains, regex"),
        (GOLDEN + "[{name: a, prompt: b, expect: {regex: '('}}]", "not a regular expression"),
        (GOLDEN + "[{name: a, prompt: b, expect: {json_schema: {type: 7}}}]", "not a JSON schema"),
        (GOLDEN + f"[{ONE}, {ONE}]", "two prompts have one name"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidDocument) as raised:
        load_proxy_file(written(tmp_path, text))
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_keys_of_the_page_are_keys(tmp_path: Path) -> None:
    keys = load_keys(written(tmp_path, EXAMPLE[1], 0o644))
    assert list(keys.digests.values()) == ["laptop"]


def test_a_key_as_it_is_needs_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    assert load_keys(written(tmp_path, f"a: {KEY}"))
    assert KEY not in repr(load_keys(written(tmp_path, f"a: {KEY}")))
    with pytest.raises(InvalidDocument) as raised:
        load_keys(written(tmp_path, f"a: {KEY}", 0o640))
    assert "chmod 600" in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: secret", "at least"),
        ("a: 12345678901234567890", "quote it"),
        ("a: sha256:secret", "64 hex digits"),
        ("a: $2b$secret", "bcrypt"),
        (f"'-': {KEY}", "the proxy's own"),
        (f"'': {KEY}", "a name of 1 to 64"),
        ("[secret]", "must be names with keys"),
        ("", "must be names with keys"),
        ("\n".join(f"n{n}: $2b$10${'a' * 53}" for n in range(9)), "more than 8 keys by bcrypt"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_and_not_shown(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(InvalidDocument) as raised:
        load_keys(written(tmp_path, text))
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_keys_that_change_are_read_again(tmp_path: Path) -> None:
    keys = written(tmp_path, f"a: {KEY}").rename(tmp_path / "keys.yml")
    file = load_proxy_file(written(tmp_path, f"keys_file: {keys}\nupstream_key_file: {keys}\n"))
    options = proxy_options(file, "http://a", LiveWebConfig())
    assert list(options.keys().digests.values()) == ["a"]
    keys.write_text(f"bcd: {KEY}")
    for live in options.live:
        live.look()
    assert list(options.keys().digests.values()) == ["bcd"]
    assert options.upstream_key() == f"bcd: {KEY}"
    keys.write_text("{}")  # never open to everybody by a slip
    options.live[0].look()
    assert list(options.keys().digests.values()) == ["bcd"]
