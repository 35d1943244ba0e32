"""The HTTP interface: its routes, their parameters and their answers."""
