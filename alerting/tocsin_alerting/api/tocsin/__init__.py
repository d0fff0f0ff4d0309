"""The endpoints that no Prometheus has: incidents, engines, channels, runbooks."""
