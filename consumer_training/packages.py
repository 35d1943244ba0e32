"""Whether the packages are installed that only training and its reports need: the extra ``train``."""

from __future__ import annotations

from importlib.util import find_spec

from shared.errors import ConfigError

NEEDED = {
    "croniter": "croniter",
    "joblib": "joblib",
    "matplotlib": "matplotlib",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
}
"""Module -> the package that it comes with."""


def require_packages(what: str) -> None:
    """Return if everything is there.

    what   : who needs it, for the message
    raises : ConfigError that names the packages and the extra
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)}, which this installation leaves out: "
            "install lapwing[train], or use the image's target `full`"
        )
