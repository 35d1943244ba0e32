"""The Avro schemas, one file per record; every field's ``doc`` gives unit and null rule."""

from __future__ import annotations

from importlib.resources import files

METRIC_EVENT = "metric_event"
SCORE_EVENT = "score_event"
ANOMALY_EVENT = "anomaly_event"
MODEL_ACTIVATION = "model_activation"
INCIDENT = "incident"
FEEDBACK = "feedback"
RESULTS = (SCORE_EVENT, ANOMALY_EVENT, MODEL_ACTIVATION, INCIDENT, FEEDBACK)
"""What Lapwing writes; schemas/json has their JSON Schemas."""

ALL = (METRIC_EVENT, SCORE_EVENT, ANOMALY_EVENT, MODEL_ACTIVATION, INCIDENT, FEEDBACK)


def text(name: str) -> str:
    """Return the JSON text of ``<name>.avsc``."""
    return (files(__name__) / f"{name}.avsc").read_text("utf-8")
