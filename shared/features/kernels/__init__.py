"""Rolling figures over a log's rows, compiled by numba."""
