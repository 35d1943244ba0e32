"""The data-quality fold, compiled by numba."""
