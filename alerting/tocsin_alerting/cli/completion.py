"""`alertctl completion`: the shell completes commands, options, and what the agent has names for.

A completion asks the agent for a second at most, and says nothing where there is none.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
)

from tocsin_alerting.cli.client import AgentClient, new_client
from tocsin_alerting.cli.output import one_line
from tocsin_alerting.cli.reach import Reach

_SECONDS = 1
_MOST = 200
_BASH = """\
_alertctl_completion() {
    local IFS=$'\\n' kind value help
    local -a values=() described=()
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value help; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            *) values+=("$value"); described+=("$value${help:+  -- $help}") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
_ALERTCTL_COMPLETE=bash_complete "$1" 2>/dev/null)
    # Only a list that is shown, and not what is typed, says what each one is.
    if [[ $COMP_TYPE == 63 || $COMP_TYPE == 33 ]] && (( ${#values[@]} > 1 )); then
        COMPREPLY=("${described[@]}")
    else
        COMPREPLY=("${values[@]}")
    fi
}
complete -o nosort -F _alertctl_completion alertctl
"""

Names = Callable[[Callable[..., Any]], Iterator[tuple[str, str]]]
"""Given how to ask the agent (path and parameters): names, each with what it is."""


class TitledBash(BashComplete):
    """As click's, and the list says what each of them is."""

    source_template = _BASH

    def source(self) -> str:
        return _BASH

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type}\t{one_line(item.value)}\t{one_line(item.help or '')}"


add_completion_class(TitledBash, "bash")
SHELLS = {"bash": TitledBash, "zsh": ZshComplete, "fish": FishComplete}


def script(shell: str, program: click.Command, variable: str) -> str:
    """What the shell reads at its start."""
    return SHELLS[shell](program, {}, "alertctl", variable).source().strip()


def asked_names(names: Names, context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Those that begin as what is typed does; none where the agent does not answer in time."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            agent = _agent(context)

            def get(path: str, **parameters: Any) -> Any:
                with agent.get(path, parameters) as data:
                    return data

            wanted = incomplete.removeprefix("#")
            found = [
                CompletionItem(name, help=one_line(about))
                for name, about in names(get)
                if name.startswith(wanted) and name.isprintable()
            ]
    except (SystemExit, click.ClickException, LookupError, TypeError, AttributeError, ValueError):
        return []
    return found[:_MOST]


def _agent(context: click.Context) -> AgentClient:
    """The one that the command would ask: its options are parsed, and nothing was run."""
    root = context.find_root()
    given = root.params
    options: dict[str, Any] = {one.name: given.get(one.name) for one in fields(Reach)}
    return new_client(root, given["url"], given.get("token_file"), _SECONDS, Reach(**options))
