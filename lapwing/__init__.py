"""The command line of Lapwing, and the embedded broker and registry of ``lapwing demo``."""

__version__ = "0.2.0"
