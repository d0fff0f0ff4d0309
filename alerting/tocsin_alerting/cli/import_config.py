"""`tocsin import`: what Tocsin takes of a Prometheus configuration, as one of its own."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tocsin_alerting.cli import output
from tocsin_alerting.time_format import read_duration

_GLOBAL = ("scrape_interval", "scrape_timeout")
_SECRETS = (
    ("bearer_token",),
    ("basic_auth", "password"),
    ("authorization", "credentials"),
    ("tls_config", "key"),
)
_PASSWORD = re.compile(r"//[^/?#]*:[^/?#]*@")
_SERVER = {"basic_auth": "basic_auth", "bearer_token_file": "bearer_token_file",
           "tls_config": "tls", "headers": "headers"}  # fmt: skip
_TAKEN = ("global", "scrape_configs", "rule_files", "alerting", "remote_write")


@click.command(name="import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_config(file: Path) -> None:
    """Print FILE, a configuration of Prometheus, as one of Tocsin.

    Jobs, rule files, external labels, Alertmanagers and remote write are taken; what is not is
    named on stderr and in comments. Exits with 1 if Tocsin would not start with the result.
    """
    from tocsin_alerting.yaml_document import InvalidDocument, file_text, parse, unreadable

    output.prepare()
    try:
        document = parse(file_text(file), str(file))
    except InvalidDocument as error:
        sys.exit(str(error))
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(str(unreadable(str(file), error)))
    data = _mapping(document.data)
    notes: list[str] = []
    text = written(converted(data, file.resolve().parent, notes), notes, file)
    for note in notes:
        print(f"not taken: {note}", file=sys.stderr)
    print(text, end="")
    sys.exit(_check(text))


def converted(data: Mapping[str, Any], directory: Path, notes: list[str]) -> dict[str, Any]:
    """The keys of our configuration; paths start at `directory`. `notes` gets what is left out."""
    common = _mapping(data.get("global"))
    found: dict[str, Any] = {}
    if "evaluation_interval" in common:
        found["evaluation_interval"] = common["evaluation_interval"]
    if common.get("external_labels"):
        found["external_labels"] = common["external_labels"]
    if patterns := _entries(data.get("rule_files")):
        files = [str(directory / str(pattern)) for pattern in patterns]
        found["rule_files"] = ["bundled", *files]
    if jobs := _entries(data.get("scrape_configs")):
        numbered = enumerate(map(_mapping, jobs))
        found["scrape_configs"] = [_job(n, job, common, directory, notes) for n, job in numbered]
    if managers := list(_alertmanagers(_mapping(data.get("alerting")), notes)):
        found["alertmanagers"] = managers
    if servers := _entries(data.get("remote_write")):
        found["remote_write"] = [_server(_mapping(one), directory, notes) for one in servers]
    notes += [f"{key}" for key in data if key not in _TAKEN]
    return found


def written(found: Mapping[str, Any], notes: list[str], file: Path) -> str:
    """As YAML, the notes as comments before it."""
    import yaml

    comments = [f"# Made from {file} by `tocsin import`.", *(f"# not taken: {n}" for n in notes)]
    body = yaml.safe_dump(dict(found), sort_keys=False, allow_unicode=True) if found else ""
    return "\n".join(comments) + "\n" + body


def _job(
    number: int,
    job: Mapping[str, Any],
    common: Mapping[str, Any],
    directory: Path,
    notes: list[str],
) -> dict[str, Any]:
    from tocsin_alerting.config.scraping import NOT_PROVIDED, ScrapeConfigSection

    fields = ScrapeConfigSection.model_fields
    named = f"job {job.get('job_name', number)}"
    kept = dict(job) | _times(job, common)
    for key in sorted(kept.keys() - {"honor_timestamps"}):
        if key not in fields or key in NOT_PROVIDED:
            notes.append(f"{named}: {key}")
            del kept[key]
    if kept.get("honor_timestamps"):
        notes.append(f"{named}: honor_timestamps (each sample gets the time of its scrape)")
        del kept["honor_timestamps"]
    for path in _SECRETS:
        _without_secret(kept, path, named, notes)
    return dict(_absolute(kept, directory))


def _times(job: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Its own, or else those of `global`; a timeout of `global` gives way to a shorter interval."""
    times = {key: both[key] for key in _GLOBAL for both in (common, job) if both.get(key)}
    interval, timeout = (read_duration(str(times.get(key))) for key in _GLOBAL)
    if "scrape_timeout" not in job and interval and timeout and timeout > interval:
        times["scrape_timeout"] = times["scrape_interval"]
    return times


def _without_secret(
    kept: dict[str, Any], path: tuple[str, ...], named: str, notes: list[str]
) -> None:
    section = kept if len(path) == 1 else kept.get(path[0])
    if isinstance(section, dict) and path[-1] in section:
        where = ".".join(path)
        notes.append(f"{named}: {where} (write the secret into a file, and name it: {where}_file)")
        kept.pop(path[0])


def _absolute(value: Any, directory: Path) -> Iterator[tuple[str, Any]]:
    """Paths from the directory of the Prometheus configuration."""
    for key, item in value.items():
        if key.endswith("_file") and isinstance(item, str):
            yield key, str(directory / item)
        elif key == "files" and isinstance(item, list):
            yield key, [str(directory / name) for name in item]
        elif isinstance(item, dict):
            yield key, dict(_absolute(item, directory))
        elif isinstance(item, list) and all(isinstance(one, dict) for one in item):
            yield key, [dict(_absolute(one, directory)) for one in item]
        else:
            yield key, item


def _alertmanagers(alerting: Mapping[str, Any], notes: list[str]) -> Iterator[dict[str, Any]]:
    for entry in map(_mapping, _entries(alerting.get("alertmanagers"))):
        scheme, prefix = entry.get("scheme", "http"), entry.get("path_prefix", "")
        for group in map(_mapping, _entries(entry.get("static_configs"))):
            for target in _entries(group.get("targets")):
                yield {"url": f"{scheme}://{target}{prefix}"}
        taken = ("scheme", "path_prefix", "static_configs")
        notes += [f"alerting.alertmanagers: {key}" for key in entry if key not in taken]
    notes += [f"alerting.{key}" for key in alerting if key != "alertmanagers"]


def _server(entry: Mapping[str, Any], directory: Path, notes: list[str]) -> dict[str, Any]:
    kept = {ours: entry[theirs] for theirs, ours in _SERVER.items() if theirs in entry}
    named = f"remote_write {entry.get('name', '') or len(notes)}"
    for path in _SECRETS:
        _without_secret(kept, path, named, notes)
    notes += [f"{named}: {key}" for key in entry if key not in (*_SERVER, "url", "name")]
    url = str(entry.get("url", ""))
    if _PASSWORD.search(url):
        notes.append(f"{named}: the password in url (name a file with basic_auth.password_file)")
        url = _PASSWORD.sub("//", url)
    return {"url": url, **dict(_absolute(kept, directory))}


def _mapping(value: object) -> Mapping[str, Any]:
    """`value`, or nothing where it is something else: what is wrong in it Prometheus says."""
    return value if isinstance(value, dict) else {}


def _entries(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _check(text: str) -> int:
    """0 where Tocsin would start with it; else what is wrong goes to stderr."""
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.yaml_document import InvalidDocument, parse
    from tocsin_alerting.yaml_model import validate

    try:
        validate(Config, parse(text, "the result"))
    except InvalidDocument as error:
        print(error, file=sys.stderr)
        return 1
    return 0
