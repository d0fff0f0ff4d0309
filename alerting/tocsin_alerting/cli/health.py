"""`alertctl health`: whether the agent is up and ready, for scripts and containers."""

import click

from tocsin_alerting.cli.client import Agent, fail


@click.command()
@click.pass_obj
def health(agent: Agent) -> None:
    """Succeed when the agent is ready to page."""
    status, text = agent.ask("GET", "/-/ready")
    said = text.strip().partition("\n")[0][:200]
    if status != 200:
        fail(said or f"HTTP {status}")
    print(said)
