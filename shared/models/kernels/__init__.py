"""Scores of trained models, compiled by numba."""
