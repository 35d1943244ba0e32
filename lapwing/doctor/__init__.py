"""``lapwing doctor``: checks of everything a service needs, and of its results.

Invariant: it changes nothing (the test file in each folder is removed), and every problem comes
with a remedy.
"""

from lapwing.doctor.command import examine

__all__ = ["examine"]
