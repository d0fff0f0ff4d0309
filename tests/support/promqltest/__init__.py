"""Runs scripts in Prometheus's promqltest language against our engine."""
