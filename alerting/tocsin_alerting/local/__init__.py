"""What runs beside the agent on the same machine: engines, the demo worker, load for it."""
