"""Which models verdicts on retained records were computed with; they are never pruned."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from consumer_training.retained_models import models_of
from shared.errors import TransportError
from tests.support.training_world import World


def activation(
    offset: int, model: str, group: str = "g", partition: int = 0, topic: str = "metrics"
) -> dict[str, object]:
    return {
        "group": group,
        "source_topic": topic,
        "source_partition": partition,
        "source_offset": offset,
        "model_sha256": model,
    }


def test_a_model_is_retained_while_a_record_that_it_scored_is() -> None:
    log = [activation(0, "a"), activation(100, "b"), activation(200, ""), activation(300, "c")]
    for first, expected in (
        (0, {"a", "b", "c"}),
        (99, {"a", "b", "c"}),
        (100, {"b", "c"}),
        (199, {"b", "c"}),
        (200, {"c"}),
        (9_000, {"c"}),
    ):
        assert models_of(reversed(log), "metrics", {0: first}) == expected, first


def test_groups_partitions_and_topics_are_told_apart() -> None:
    log = [
        activation(0, "a"),
        activation(50, "b"),
        activation(0, "c", group="other"),
        activation(0, "d", partition=1),
        activation(0, "e", topic="others"),
    ]
    assert models_of(log, "metrics", {0: 50, 1: 7}) == {"b", "c", "d"}
    assert models_of(log, "metrics", {}) == {"a", "b", "c", "d"}, "nothing was removed"


def test_training_keeps_models_in_use_and_prunes_nothing_without_knowing(tmp_path: Path) -> None:
    world = World(tmp_path, keep=1, every="1h")
    world.up_to = 300
    service = world.service()
    models = []
    for seed in range(3):
        service.settings = service.settings.model_copy(
            update={"train": service.settings.train.model_copy(update={"seed": seed})}
        )
        world.retained = lambda: set(models[:1])
        model = service.train_once()
        assert model is not None
        models.append(model.sha256)
    assert {models[0], models[2]} == {one.name for one in tmp_path.iterdir() if len(one.name) == 64}

    def unknown() -> set[str]:
        raise TransportError("no answer")

    world.retained = unknown
    with capture_logs() as logged:
        service.settings = world.settings
        service.train_once()
    [warning] = [line for line in logged if "old models are kept" in line["event"]]
    assert warning["because"] == "no answer"
    assert (tmp_path / models[0]).is_dir()
