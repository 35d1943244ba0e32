"""Everyday situations of an operator: rows, what must and must not be alarmed, a judge."""
