"""Remote read: a Prometheus asks for samples of the store, and evaluates them itself."""
