"""Loops that write Avro, compiled by numba."""
