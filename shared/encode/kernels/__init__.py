"""Kernels that write Avro, compiled by numba."""
