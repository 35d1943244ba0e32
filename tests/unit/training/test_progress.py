"""What is shown on a terminal that watches a training."""

from __future__ import annotations

from pathlib import Path

from consumer_training.fitting.reconstruction import Epoch
from consumer_training.outside import Options
from consumer_training.progress import ReadProgress, Watcher
from consumer_training.reading.history import History
from shared.settings import Settings
from tests.support.episodes import needs_speed
from tests.support.training_world import World


def test_each_pass_is_a_line_with_a_bar_that_shrinks_with_the_loss() -> None:
    lines: list[str] = []
    watcher = Watcher(lines.append)
    watcher.epoch(Epoch(1, 1.0, 2.0, 2.0))
    watcher.epoch(Epoch(2, 0.5, 1.0, 1.0))
    watcher.epoch(Epoch(3, 0.4, 1.5, 1.0))
    assert [line.count("#") for line in lines] == [30, 15, 22]
    assert [line.endswith("best") for line in lines] == [True, True, False]
    assert lines[1].startswith("pass   2  loss 0.5000  held back 1.0000")
    watcher.epoch(Epoch(1, 1.0, 0.1, 0.1))
    assert lines[3].count("#") == 30


def test_reading_is_shown_once_a_second_and_at_its_end() -> None:
    lines: list[str] = []
    now_s = [100.0]
    progress = ReadProgress(
        lambda: now_s[0], History(None, Settings()), {0: 10}, {0: 1010}, Watcher(lines.append)
    )
    for _ in range(10):
        now_s[0] += 0.5
        progress.count(100)
    assert len(lines) == 5
    assert lines[0] == "reading   20.0 %  200 records  200/s  0:04 left"
    assert lines[-1].startswith("reading  100.0 %")


@needs_speed
def test_a_training_that_is_watched_shows_reading_and_passes(tmp_path: Path) -> None:
    lines: list[str] = []
    world = World(tmp_path, member="reconstruction")
    world.up_to = 300
    assert world.service(Options(once=True, watcher=Watcher(lines.append))).train_once()
    assert lines[0].startswith("reading  ")
    passes = [line for line in lines if line.startswith("pass ")]
    assert passes[0].startswith("pass   1  loss ")
    assert any(line.endswith("best") for line in passes)
