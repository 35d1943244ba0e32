"""``lapwing inspect``: what is read of records or rows as entity, time and metrics, and what is
not.
"""
