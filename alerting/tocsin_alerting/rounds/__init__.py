"""What happens again and again, by the clock: rules are evaluated, timers run, messages go out."""
