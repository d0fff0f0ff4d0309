"""`alertctl token`: bearer tokens, by the agent's Unix socket or on their file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from tocsin_alerting.cli import agent_names, output
from tocsin_alerting.cli.client import AgentClient, fail, unreachable

if TYPE_CHECKING:
    from tocsin_alerting.api.http.tokens import TokenFile

HEADER = ["NAME", "ROLE", "CREATED"]
_ROLES = click.Choice(["read", "respond", "admin"])
_NOWHERE = (
    "no agent answers on a Unix socket of this machine that you may use; as the agent's user, name"
    " its data directory with --storage.path"
)
storage_option = click.option(
    "--storage.path",
    "storage",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Work on the file in this data directory, as the agent's user; the agent need not run."
    "  [default: ask the agent]",
)


@click.group()
def token() -> None:
    """Manage the bearer tokens that let other machines and programs in."""


@token.command()
@click.argument("name")
@click.option(
    "--role", type=_ROLES, default="read", show_default=True, help="What the bearer may do."
)
@storage_option
@click.pass_obj
def add(agent: AgentClient, name: str, role: str, storage: Path | None) -> None:
    """Make a token called NAME and print it; it is shown this once."""
    if storage is None:
        with _by_socket(agent).post(_path(name), {"role": role}) as made:
            print(made["token"])
        return
    from tocsin_alerting.api.http.tokens import InvalidTokens

    try:
        print(_file(storage).add(name, role, _now()))
    except InvalidTokens as error:
        fail(str(error))


@token.command("list")
@output.format_option
@storage_option
@click.pass_obj
def listed(agent: AgentClient, format: str, storage: Path | None) -> None:
    """List the names and roles of the tokens."""
    if storage is None:
        with _by_socket(agent).get("/api/v1/tokens") as data:
            _print(data, format)
        return
    from tocsin_alerting.api.http.tokens import InvalidTokens

    try:
        tokens = _file(storage).read()
    except InvalidTokens as error:
        fail(str(error))
    rows = [{"name": t.name, "role": t.role, "created": t.created} for t in tokens]
    _print({"tokens": rows}, format)


@token.command()
@click.argument("name", shell_complete=agent_names.tokens)
@storage_option
@click.pass_obj
def revoke(agent: AgentClient, name: str, storage: Path | None) -> None:
    """Revoke the token called NAME; within a second nobody gets in with it."""
    if storage is None:
        with _by_socket(agent).post(f"{_path(name)}/revoke", {}):
            print(f"{name}: revoked")
        return
    from tocsin_alerting.api.http.tokens import InvalidTokens

    try:
        _file(storage).revoke(name)
    except InvalidTokens as error:
        fail(str(error))
    print(f"{name}: revoked")


def _print(data: dict[str, list[dict[str, str]]], format: str) -> None:
    if output.as_data(data, format):
        return
    rows = [[row["name"], row["role"], row["created"]] for row in data["tokens"]]
    output.table(HEADER, rows, "no tokens")


def _path(name: str) -> str:
    from urllib.parse import quote

    return f"/api/v1/tokens/{quote(name, safe='')}"


def _by_socket(agent: AgentClient) -> AgentClient:
    """The agent of this machine; one that is named by its URL answers for itself."""
    root = click.get_current_context().find_root()
    named = root.get_parameter_source("url") is not ParameterSource.DEFAULT
    if agent.unix_socket is None and not named:
        unreachable(_NOWHERE)
    return agent


def _file(storage: Path) -> "TokenFile":
    """Of an agent's user, or root: what somebody else writes there the agent could not read."""
    from tocsin_alerting.api.http.tokens import FILE_NAME, TokenFile

    owner = storage.stat().st_uid
    if os.geteuid() not in (0, owner):
        from tocsin_alerting.local.ports import user_name

        fail(f"{storage} belongs to {user_name(owner)}; run this as that user, or as root")
    return TokenFile(storage / FILE_NAME)


def _now() -> str:
    import time

    from tocsin_alerting.time_format import rfc3339

    return rfc3339(int(time.time() * 1000))  # noqa: TID251  (the command line's own clock)
