"""``lapwing inspect``: how records or rows are read as entity, time and metrics."""
