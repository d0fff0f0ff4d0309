"""Blocks: sealed samples in files that never change."""
