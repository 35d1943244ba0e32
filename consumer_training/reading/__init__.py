"""Reads the input topic and samples what the fold sees of its rows, in bounded memory."""
