"""A training that was killed continues from its checkpoint, with the same artefact in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import structlog

from consumer_training import service
from consumer_training.reading import ahead
from consumer_training.reading.checkpoint_file import (
    NAME,
    CheckpointFile,
    CheckpointRefused,
    Saved,
)
from shared import artifacts
from shared.batch import Batch
from shared.errors import HistoryGone
from tests.support.episodes import needs_speed
from tests.support.training_world import World

ROWS = 200
SAVED = Saved(
    {"train.seed": 0}, {0: 7}, {"rows": 32}, {"a": np.arange(6.0).reshape(2, 3), "b": np.empty(0)}
)


class Interrupted(Exception):
    """What ends a training in a test that goes on."""


class Killed(World):
    """A topic whose reader is killed once a checkpoint was written; a round is one batch."""

    def __init__(self, folder: Path, **train: object) -> None:
        super().__init__(folder, checkpoint_s=0.001, **train)
        self.up_to = ROWS
        self.is_killed = False
        self.left = 4

    def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
        for batch in super().read(start, end):
            yield batch
            self.time_s += 1.0
            self.left -= 1
            if not self.left:
                self.die()

    def die(self) -> None:
        raise Interrupted


class KilledProcess(Killed):
    def die(self) -> None:
        while not (self.settings.models_dir / NAME).exists():
            pass
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def _small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_PICTURES", 0)
    monkeypatch.setattr(ahead, "ROUND_RECORDS", 1)
    monkeypatch.setattr(ahead, "ROUNDS_AHEAD", 1)


def uninterrupted(folder: Path, **train: object) -> str | None:
    world = World(folder, **train)
    world.up_to = ROWS
    world.service().run()
    return artifacts.current(folder)


def interrupt(world: Killed) -> None:
    with pytest.raises(Interrupted):
        world.service().run()
    assert (world.settings.models_dir / NAME).is_file()


@needs_speed
def test_kill_minus_nine_changes_nothing(tmp_path: Path) -> None:
    child = (
        "from pathlib import Path; from tests.unit.training.test_checkpoint import *;"
        " ahead.ROUND_RECORDS = ahead.ROUNDS_AHEAD = 1;"
        f" KilledProcess(Path({str(tmp_path / 'killed')!r})).service().run()"
    )
    done = subprocess.run([sys.executable, "-c", child], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    again = World(tmp_path / "killed")
    again.up_to = ROWS
    with structlog.testing.capture_logs() as logs:
        again.service().run()
    assert "continuing from a checkpoint" in [log["event"] for log in logs]
    assert sum(again.reads[0].values()) > 0
    assert artifacts.current(tmp_path / "killed") == uninterrupted(tmp_path / "whole") is not None
    assert not (tmp_path / "killed" / NAME).exists()


@needs_speed
@pytest.mark.parametrize("member", ["isolation_forest", "reconstruction"])
def test_records_that_came_later_are_left_to_the_next_training(tmp_path: Path, member: str) -> None:
    world = Killed(tmp_path / "killed", member=member)
    interrupt(world)
    again = World(tmp_path / "killed", member=member)
    again.up_to = ROWS + 100
    again.service().run()
    whole = uninterrupted(tmp_path / "whole", member=member)
    assert artifacts.current(tmp_path / "killed") == whole is not None


@needs_speed
@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda world: setattr(world, "name", "cluster/other"), "the topic's identity = "),
        (lambda world: setattr(world, "up_to", 10), "ends behind the log of partitions"),
        (
            lambda world: setattr(
                world,
                "settings",
                world.settings.model_copy(
                    update={"train": world.settings.train.model_copy(update={"seed": 5})}
                ),
            ),
            "written with train.seed = 0, and now it is 5",
        ),
        (
            lambda world: (world.settings.models_dir / NAME).write_bytes(b"\0" * 4096),
            "it is no checkpoint of this version",
        ),
        (lambda world: (world.settings.models_dir / NAME).write_bytes(b""), "has 0 bytes"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, change: object, because: str
) -> None:
    interrupt(Killed(tmp_path))
    again = World(tmp_path)
    again.up_to = ROWS
    change(again)  # type: ignore[operator]
    again.plan = {1.0: again.fill(ROWS)}
    with structlog.testing.capture_logs() as logs:
        again.service().run()
    (refused,) = [log for log in logs if "refused" in log["event"]]
    assert because in refused["because"]
    assert again.reads[0] == {}
    assert artifacts.current(tmp_path) is not None


@needs_speed
def test_a_log_whose_start_was_deleted_is_read_from_its_start(tmp_path: Path) -> None:
    interrupt(Killed(tmp_path))

    class Gone(World):
        def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
            if start:
                raise HistoryGone("its log starts at offset 9")
            yield from super().read(start, end)

    again = Gone(tmp_path)
    again.up_to = ROWS
    with structlog.testing.capture_logs() as logs:
        again.service().run()
    (refused,) = [log for log in logs if "refused" in log["event"]]
    assert refused["because"] == "its log starts at offset 9"
    assert artifacts.current(tmp_path) is not None


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path)
    assert file.read({"train.seed": 0}) is None
    assert file.write(SAVED) == file.path.stat().st_size
    found = file.read({"train.seed": 0})
    assert found is not None
    assert (found.end, found.facts) == ({0: 7}, {"rows": 32})
    np.testing.assert_array_equal(found.arrays["a"], SAVED.arrays["a"])
    assert found.arrays["b"].shape == (0,)
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path) -> None:
    CheckpointFile(tmp_path, b"a" * 32).write(SAVED)
    for key in (b"", b"b" * 32):
        with pytest.raises(CheckpointRefused, match=r"its digest is wrong: .* models\.sign_key"):
            CheckpointFile(tmp_path, key).read(SAVED.origin)


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path)
    file.write(SAVED)
    whole = file.path.read_bytes()
    for place in range(0, len(whole), 7):
        file.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointRefused):
            file.read(SAVED.origin)
    for length in (0, 30, len(whole) // 2, len(whole) - 1):
        file.path.write_bytes(whole[:length])
        with pytest.raises(CheckpointRefused):
            file.read(SAVED.origin)
