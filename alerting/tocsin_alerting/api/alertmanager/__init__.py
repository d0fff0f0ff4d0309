"""Alertmanager's API v2, for every Prometheus, vmalert, amtool and karma."""
