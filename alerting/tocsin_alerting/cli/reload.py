"""`alertctl reload`: what the files say now holds from now on."""

import click

from tocsin_alerting.cli.client import AgentClient, fail, user_name

_OURS = ("failed to reload config: ", " needs a restart")


@click.command()
@click.pass_obj
def reload(agent: AgentClient) -> None:
    """Reload the agent's configuration and rules; with an error in them, what ran runs on."""
    status, text = agent.ask("POST", "/-/reload", json={"user": user_name()})
    if status in (401, 403, 429) or (status == 500 and text.startswith(_OURS[0])):
        fail(text.strip()[:20_000])
    with agent.understood():
        if status != 200 or not all(line.endswith(_OURS[1]) for line in text.splitlines()):
            raise ValueError(f"HTTP {status}")
        print("reloaded", *text.splitlines(), sep="\n")
