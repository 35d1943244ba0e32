"""The formats of ``lapwing route``, one module each."""
