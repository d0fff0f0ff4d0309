"""The loops of the agent: rules are evaluated, incident timers run, notifications go out."""
