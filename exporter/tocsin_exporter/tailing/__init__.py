"""Logs of others, read through rotation: their lines counted by level and by pattern."""
