"""``lapwing inspect``: what is read of the newest records or rows as entity, time and metrics, and what is left out."""
