"""Loops over arrays, compiled by numba: no meaning of their own, no I/O, a slow twin in the tests
for each.
"""
