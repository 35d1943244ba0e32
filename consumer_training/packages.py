"""Checks that the packages of the extra ``train`` are installed."""

from __future__ import annotations

from importlib.util import find_spec

from shared.errors import ConfigError

NEEDED = {
    "croniter": "croniter",
    "joblib": "joblib",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
}
"""Module -> the package that provides it."""


def require_packages(what: str) -> None:
    """Check that all packages are installed.

    what   : the feature that needs them, for the message
    raises : ConfigError that names the packages and the extra
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)}, which is not installed: "
            "install lapwing[train], or use the image's target `full`"
        )
