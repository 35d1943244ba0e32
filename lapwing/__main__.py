"""``lapwing`` and ``python -m lapwing``: check the Python, then hand over to the command line.

Invariant: any Python 3 can parse this file, so a Python that is too old gives a message, not a
traceback.
"""

import sys

OLDEST = (3, 11)


def main() -> int:
    """Run the command line; return the exit code."""
    if sys.version_info[:2] < OLDEST:
        found = sys.version.partition(" ")[0]
        sys.stderr.write(
            "lapwing needs Python 3.11, 3.12 or 3.13; this is %s (%s)\n" % (found, sys.executable)  # noqa: UP031 - old Pythons read this
        )
        return 2
    from lapwing.app import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
