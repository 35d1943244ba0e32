"""Compares the data that a model was trained on with the input that it scores.

Invariant: pure functions. A manifest is not trusted: missing entries are unknown, and texts from it
are truncated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

SHOWN_NAMES, SHOWN_CHARACTERS = 5, 100


def other_topic(facts: Mapping[str, Any], topic: str) -> str:
    """Return a sentence about a model that was trained on another topic.

    facts   : its manifest
    topic   : the input
    returns : empty where the topic is the same or the manifest names none
    """
    trained_on = _trained_on(facts)
    if trained_on in ("", topic):
        return ""
    return f"it was trained on {trained_on} (metrics {_metrics(facts)}), but the input is {topic}"


def no_metric_in_common(facts: Mapping[str, Any], metrics: Collection[str]) -> str:
    """Return a sentence about a model without any metric of the input.

    facts   : its manifest
    metrics : of the input; none = unknown
    returns : empty where they share a metric
    """
    own = _names(facts)
    if not own or not metrics or set(own) & set(metrics):
        return ""
    return f"none of its metrics ({_metrics(facts)}) is in the input, which has {_shown(metrics)}"


def _trained_on(facts: Mapping[str, Any]) -> str:
    trained_on = facts.get("input")
    topic = trained_on.get("topic") if isinstance(trained_on, Mapping) else None
    return topic[:SHOWN_CHARACTERS] if isinstance(topic, str) else ""


def _names(facts: Mapping[str, Any]) -> list[str]:
    names = facts.get("metrics")
    if not isinstance(names, list | tuple):
        return []
    return [name for name in names if isinstance(name, str)]


def _metrics(facts: Mapping[str, Any]) -> str:
    return _shown(_names(facts))


def _shown(names: Collection[str]) -> str:
    few = [name[:SHOWN_CHARACTERS] for name in list(names)[:SHOWN_NAMES]]
    return ", ".join(few) + (", ..." if len(names) > SHOWN_NAMES else "")
