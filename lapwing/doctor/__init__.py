"""Looks at everything that a service needs and at what comes out, and says what to do about it.

Law: it changes nothing (a test file in each folder is removed again), and whatever is not well
comes with a next step.
"""

from lapwing.doctor.command import examine

__all__ = ["examine"]
