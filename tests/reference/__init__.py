"""Slow, obviously correct twins of the kernels and of other fast code."""
