"""Where the classes of a severity begin, for kernels and for records alike."""

MINOR, MAJOR, CRITICAL = 0.5, 0.7, 0.85
"""Smallest severity of each class that is an alarm."""
