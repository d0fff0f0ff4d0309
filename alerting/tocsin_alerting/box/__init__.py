"""What runs beside the agent on the same machine: engines, a worker of our own, load for it."""
