"""The configuration: one strict file, every error at its place, secrets elsewhere."""
