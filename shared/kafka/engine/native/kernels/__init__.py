"""Kernels that read librdkafka's messages and send records to it, compiled by numba."""
