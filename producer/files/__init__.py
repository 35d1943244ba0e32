"""Reads CSV files into columns: the role of each column and the format of its cells."""
