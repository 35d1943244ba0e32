"""Names of settings: environment variables, former names, suggestions for misspelt ones.

Invariant: a setting is ``section.name``, or ``name`` at the top; its variable follows from that.
"""

from __future__ import annotations

import difflib

from pydantic import BaseModel

ENV_PREFIX = "LAPWING_"
ALIASES = {
    "KAFKA_BOOTSTRAP_SERVERS": "LAPWING_KAFKA__BOOTSTRAP_SERVERS",
    "SCHEMA_REGISTRY_URL": "LAPWING_REGISTRY__URL",
}
"""Common variable names and ours; the LAPWING_ name wins where both are set."""

RENAMED = {
    "predict.outage_deadline_s": "outage_deadline_s",
    "detection.warmup_samples": "detection.warmup_days",
}
"""Former name of a setting -> present name, which the error suggests."""

SECRETS = (
    "registry.basic_auth",
    "dashboard.token",
    "opensearch.password",
    "kafka.sasl.password",
    "kafka.ssl.key.password",
    "kafka.ssl.keystore.password",
    "kafka.sasl.oauthbearer.client.secret",
)
"""Settings whose variable may end in ``_FILE`` and name a file with the value."""

ALIKE = 0.7
"""Similarity from 0 to 1 from which a name is suggested."""


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: ``train.trees`` is LAPWING_TRAIN__TREES.

    Dots beyond the first, as librdkafka's names have them, become '_'.
    """
    section, dot, rest = name.strip().partition(".")
    return ENV_PREFIX + (f"{section}__{rest.replace('.', '_')}" if dot else section).upper()


def names_of(settings: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the names of all settings, dotted."""
    found = []
    for name, field in settings.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += names_of(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def did_you_mean(name: str, settings: type[BaseModel]) -> str:
    """Return the suggestion of the most similar setting, for the end of a message; or empty."""
    near = difflib.get_close_matches(name.lower(), names_of(settings), n=1, cutoff=ALIKE)
    return f"; did you mean {near[0]} ({variable_of(near[0])})?" if near else ""
