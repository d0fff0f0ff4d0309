"""The flag that says whose PromQL is meant."""

import click

semantics_option = click.option(
    "--promql.semantics",
    "semantics",
    type=click.Choice(["2", "3"]),
    default="3",
    show_default=True,
    callback=lambda _, __, value: int(value),
    help="Whose PromQL the expressions are: of Prometheus 2.42 or of 3.",
)
