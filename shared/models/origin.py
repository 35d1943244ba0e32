"""What a model was trained on, against what it is to judge.

Invariant: pure. A manifest may come from anybody: what it lacks is unknown, and what it says is
shown cut.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

SHOWN_NAMES, SHOWN_CHARACTERS = 5, 100


def other_topic(facts: Mapping[str, Any], topic: str) -> str:
    """Say that a model was trained on another topic than it is to judge.

    facts   : its manifest
    topic   : the input
    returns : a sentence; empty where the topic is the same or the manifest names none
    """
    trained_on = _trained_on(facts)
    if trained_on in ("", topic):
        return ""
    return f"it was trained on {trained_on} (metrics {_metrics(facts)}), and the input is {topic}"


def no_metric_in_common(facts: Mapping[str, Any], metrics: Collection[str]) -> str:
    """Say that none of a model's metrics is among those of the input.

    facts   : its manifest
    metrics : of the input; none = they are not known
    returns : a sentence; empty where one is
    """
    own = _names(facts)
    if not own or not metrics or set(own) & set(metrics):
        return ""
    return f"none of its metrics ({_metrics(facts)}) is in the input, which has {_shown(metrics)}"


def _trained_on(facts: Mapping[str, Any]) -> str:
    said = facts.get("input")
    topic = said.get("topic") if isinstance(said, Mapping) else None
    return topic[:SHOWN_CHARACTERS] if isinstance(topic, str) else ""


def _names(facts: Mapping[str, Any]) -> list[str]:
    said = facts.get("metrics")
    return [one for one in said if isinstance(one, str)] if isinstance(said, list | tuple) else []


def _metrics(facts: Mapping[str, Any]) -> str:
    return _shown(_names(facts))


def _shown(names: Collection[str]) -> str:
    few = [name[:SHOWN_CHARACTERS] for name in list(names)[:SHOWN_NAMES]]
    return ", ".join(few) + (", ..." if len(names) > SHOWN_NAMES else "")
