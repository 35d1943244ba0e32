"""Fits each trained detector to rows, and exports its arrays."""
