"""Kernels that several packages need: loops over arrays, compiled by numba, each with a twin."""
