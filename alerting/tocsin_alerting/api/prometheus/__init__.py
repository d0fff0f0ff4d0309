"""Prometheus's HTTP API."""
