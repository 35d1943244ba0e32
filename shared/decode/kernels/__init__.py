"""Kernels that read records, compiled by numba."""
