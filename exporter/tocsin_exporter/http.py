"""The HTTP client of this package: the one place that imports it."""

import logging

import httpx2 as httpx

__all__ = ["httpx"]

for _name in ("httpx2", "httpcore2"):  # a line a request, every second, says nothing
    logging.getLogger(_name).setLevel(logging.WARNING)
