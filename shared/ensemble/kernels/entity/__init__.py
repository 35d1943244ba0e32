"""One entity: its rows, what its metrics say together, and its episodes."""
