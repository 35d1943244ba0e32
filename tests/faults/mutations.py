"""Mistakes to plant into a copy of the product; each must be detected by a row of the table.

Invariant: a mutant names the exact text that it replaces, which occurs once in its file. Where the
           code has changed, that is an error here, never a mutant without effect.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.faults.predictor import environ_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "schemas", "consumer_prediction", "lapwing")
"""Packages that a predictor, a publisher of models and the incidents service consist of."""

PATIENCE_S = 30.0
STUCK = "did not happen within"
"""The problem that a row reports when an expected event does not happen."""


@dataclass(frozen=True)
class Edit:
    """One replacement; ``old`` occurs exactly once in the file."""

    file: str
    old: str
    new: str

    def apply(self, tree: Path) -> None:
        path = tree / self.file
        path.write_text(self.within(path.read_text("utf-8")), "utf-8")

    def within(self, text: str) -> str:
        """Return the text with the replacement; raise ValueError unless the place is unique."""
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file}: {found} places instead of one hold\n{self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """One mistake, and by what it should be noticed.

    rows       : names of rows, the likeliest first
    sign       : part of the problem that a row names, where results do not show the mistake
    tries      : how often a row is carried out at most, each time with other dice
    patience_s : longest wait of a row for anything
    """

    name: str
    edits: tuple[Edit, ...]
    rows: tuple[str, ...]
    sign: str = ""
    tries: int = 2
    patience_s: float = PATIENCE_S


def copy_product(tree: Path) -> None:
    """Copy the product with its kernel cache (keyed by mtime), and compile missing kernels."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package)
    _run(tree, "-m", "shared.kernels")


def plant(mutant: Mutant, whole: Path, tree: Path) -> None:
    """Copy a product, make the mutant's edits, and compile the kernels that they may be in.

    numba keys its cache on a kernel's own file, not on those of the helpers that it calls.
    """
    shutil.copytree(whole, tree)
    for edit in mutant.edits:
        edit.apply(tree)
    edited = {(tree / edit.file).parent for edit in mutant.edits}
    kernels = {folder for folder in edited if folder.name == "kernels"}
    if tree / "shared" / "kernels" in kernels:
        kernels = set(tree.rglob("kernels"))
    for folder in kernels:
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    if kernels:
        _run(tree, "-m", "shared.kernels")


def _run(tree: Path, *arguments: str) -> None:
    command = [sys.executable, *arguments]
    subprocess.run(
        command, cwd=tree, env=os.environ | environ_of(tree), stdout=subprocess.DEVNULL, check=True
    )


LOOP, CONNECTION = "consumer_prediction/loop.py", "consumer_prediction/connection.py"
SINK, SOURCE, CLIENT = "shared/kafka/sink.py", "shared/kafka/source.py", "shared/kafka/client.py"
AVRO, ROLLING = "shared/decode/kernels/avro_rows.py", "shared/features/kernels/rolling.py"
GATES = "shared/decode/kernels/gate_checks.py"
FOLDER, FRAMES = "shared/snapshots/folder.py", "shared/snapshots/frames.py"
ARTIFACTS, FORMAT = "shared/artifacts/published.py", "shared/models/artifact_format.py"

KILLS, DRAIN, FAILOVER = (
    "kill -9 at random, one predictor",
    "SIGTERM drains",
    "kill -9, nobody comes back: failover",
)
HELD, BROKEN = (
    "one request held back, delivered late",
    "one request held back, its connection broken",
)
RESCALE, STORM, GIVEN_UP = (
    "rescale 1 -> 4 -> 2 under load",
    "rebalance storm",
    "kill -9 while partitions are given up",
)
POISON, REGISTRY = "poison: every kind at 1 %, bursts of 1000", "registry down in mid-stream"
LEAVING = "entities leave and return"
SNAPSHOTS = "snapshots damaged"
MODELS, PUBLISHED = "model damaged, or of other features", "models published while predictors run"
MIXED_UP, ABORTED = (
    "model's files do not belong together",
    "aborted records at the end of the input",
)

MUTANTS = (
    # -- positions, transactions
    Mutant(
        "auto-commit on",
        (
            Edit(CLIENT, '"enable.auto.commit": "false",', '"enable.auto.commit": "true",'),
            Edit(
                CLIENT,
                '"enable.auto.offset.store": "false",',
                '"enable.auto.offset.store": "true",',
            ),
        ),
        (DRAIN, KILLS),
    ),
    Mutant(
        "positions committed before the results",
        (
            Edit(
                SINK,
                "producer.send_positions(topic, positions, membership, self._call_timeout_s)",
                "self.source.commit(positions)",
            ),
        ),
        (HELD,),
    ),
    Mutant(
        "no transactions",
        (Edit(CONNECTION, 'if self._settings.predict.delivery == "at-least-once":', "if True:"),),
        (KILLS,),
    ),
    Mutant(
        "read_uncommitted",
        (
            Edit(
                CLIENT,
                '"isolation.level": "read_committed",',
                '"isolation.level": "read_uncommitted",',
            ),
        ),
        (ABORTED,),
    ),
    Mutant(
        "dead letters outside the transaction",
        (
            Edit(
                SINK,
                "        self._unusable: TransportError | None = None\n",
                "        self._unusable: TransportError | None = None\n        self._beside,"
                " self._letters = Outbox(settings, tuning), settings.topics.dead_letters\n",
            ),
            Edit(
                SINK,
                "        self._begin_if_needed()\n"
                "        try:\n            row = self._outbox.put(",
                "        if records.topic == self._letters:\n"
                "            self._beside.put(records, 0, self.timeout_s)\n"
                "            self._beside.flush(self.timeout_s)\n"
                "            return\n"
                "        self._begin_if_needed()\n"
                "        try:\n            row = self._outbox.put(",
            ),
        ),
        (POISON, KILLS),
    ),
    Mutant(
        "dead letters dropped",
        (
            Edit(
                "consumer_prediction/outgoing.py", "if len(outcome.columns.rejected):", "if False:"
            ),
        ),
        (DRAIN,),
    ),
    Mutant(
        "a dead predictor's transaction stays open for minutes",
        (
            Edit(
                CONNECTION,
                "transaction_timeout_ms=self._settings.predict.transaction_timeout_ms,",
                "transaction_timeout_ms=300_000,",
            ),
        ),
        (FAILOVER,),
        sign=STUCK,
    ),
    Mutant(
        "producer kept after an undecided commit",
        (
            Edit(
                SINK,
                "        self._unusable = TransactionInDoubt(str(failure))\n"
                "        return self._unusable",
                "        return TransactionAborted(str(failure))",
            ),
        ),
        (HELD,),
        sign=STUCK,
    ),
    Mutant(
        "a late commit may end the next transaction",
        (
            Edit(
                SINK,
                "if time.monotonic() - began_s >= self._may_have_retried_s:",
                "if time.monotonic() - began_s >= 60.0:",
            ),
        ),
        (BROKEN,),
        tries=3,
    ),
    Mutant(
        "coordinator forgotten with a broken connection",
        (
            Edit(CLIENT, '    "metadata.recovery.strategy": "none",\n', ""),
            Edit(SINK, "            self._call_in_thread(call, action)\n", "            call()\n"),
        ),
        (BROKEN,),
        sign=STUCK,
        tries=6,
    ),
    # -- state
    Mutant(
        "state kept after an abort",
        (
            Edit(
                LOOP,
                "        self.owned.clear()\n        self.polling.held.clear()\n",
                "        self.polling.held.clear()\n",
            ),
            Edit(
                LOOP,
                "        self.transaction.recover()\n        self.owned.clear()\n",
                "        self.transaction.recover()\n",
            ),
            Edit(
                LOOP,
                "            self._take_over(partition, position, start[partition])\n",
                "            if position and partition in self.owned:\n"
                "                self.owned[partition].state.next_offset = position.offset\n"
                "            else:\n"
                "                self._take_over(partition, position, start[partition])\n",
            ),
        ),
        (HELD,),
    ),
    Mutant(
        "state kept from an earlier ownership",
        (
            Edit(
                LOOP, "owned = self.owned.pop(partition, None)", "owned = self.owned.get(partition)"
            ),
            Edit(
                LOOP,
                "            self._take_over(partition, position, start[partition])\n",
                "            if partition not in self.owned:\n"
                "                self._take_over(partition, position, start[partition])\n",
            ),
        ),
        (STORM, RESCALE),
    ),
    Mutant(
        "positions of revoked partitions committed",
        (
            Edit(
                LOOP,
                "                self._commit()\n        except TransportError as error:\n"
                '            self._invalidate("partitions revoked,',
                "                pass\n        except TransportError as error:\n"
                '            self._invalidate("partitions revoked,',
            ),
            Edit(
                LOOP, "owned = self.owned.pop(partition, None)", "owned = self.owned.get(partition)"
            ),
        ),
        (RESCALE, STORM),
        tries=4,
    ),
    Mutant(
        "partitions that nobody has are not looked for",
        (Edit(SOURCE, "        self._check_unassigned()\n", ""),),
        (GIVEN_UP,),
        sign=STUCK,
        patience_s=60.0,
    ),
    Mutant(
        "results sent again by a replay",
        (Edit(LOOP, "Piece(owned, *segment)", "Piece(owned, segment[0], False)"),),
        (KILLS,),
    ),
    Mutant(
        "position committed without its checkpoint",
        (
            Edit(
                LOOP,
                "metadata(owned.state, self",
                "'' and metadata(owned.state, self",
            ),
        ),
        (DRAIN,),
    ),
    Mutant(
        "snapshot of what is not committed yet",
        (
            Edit(
                LOOP,
                "        outcomes = self.transaction.commit(positions)\n",
                "        for owned in self.owned.values():\n            if not owned.replaying and"
                " owned.progress.offset != owned.state.next_offset:\n               "
                " self.dependencies.snapshots.write(owned.progress, owned.state)\n"
                "        outcomes = self.transaction.commit(positions)\n",
            ),
            Edit(FOLDER, " if entry.offset <= at_most]", "]"),
        ),
        (HELD,),
    ),
    Mutant(
        "snapshot taken without its checksum",
        (
            Edit(
                FRAMES,
                "    if digest.digest() != data[-_HASH_BYTES:].tobytes():\n",
                "    if False:\n",
            ),
            Edit(
                FOLDER,
                "if not frame.digest.startswith(entry.digest) or frame.next_offset",
                "if frame.next_offset",
            ),
        ),
        (SNAPSHOTS,),
        tries=3,
    ),
    Mutant(
        "a restart forgets whose last record is the oldest",
        (
            Edit(
                "shared/scoring/state.py",
                '        places.clock[:] = arrays["clock"]\n',
                '        places.clock[:] = arrays["clock"]\n        places.seen_at[:] = 0\n',
            ),
        ),
        (LEAVING,),
        tries=3,
    ),
    # -- the fold and its gates
    Mutant(
        "records of an entity that leaves are kept",
        (
            Edit(
                "shared/scoring/leaving.py",
                "owner, SILENT, forget=True))",
                "owner, SILENT))",
            ),
        ),
        (LEAVING,),
    ),
    Mutant(
        "wall clock in the fold",
        (
            Edit(
                "shared/scoring/scorer.py",
                "        forget_ms = round(quality.forget_days * DAY_MS)\n",
                "        import time\n        before_s, self._at_s = getattr(self, '_at_s',"
                " time.monotonic()), time.monotonic()\n        forget_ms ="
                " round(quality.forget_days * DAY_MS) if self._at_s < before_s + 3.0 else 1\n",
            ),
        ),
        (REGISTRY,),
    ),
    Mutant(
        "late and repeated records folded",
        (
            Edit(
                ROLLING,
                "        if not (late or same or out.ahead[row]):\n",
                "        if not (late and same):\n",
            ),
        ),
        (DRAIN,),
    ),
    Mutant(
        "no trailing-byte check", (Edit(AVRO, "elif end < stop:", "elif end > stop:"),), (POISON,)
    ),
    Mutant(
        "NaN and infinity accepted",
        (Edit(GATES, "if found[HAS_NOT_FINITE]:", "if found[HAS_NOT_FINITE] > 1:"),),
        (POISON,),
    ),
    Mutant(
        "any event time accepted",
        (Edit(GATES, "not found[HAS_TIME] or outside else", "not found[HAS_TIME] else"),),
        (POISON,),
    ),
    Mutant(
        "registry error treated as poison",
        (
            Edit(
                "shared/registry/__init__.py",
                "lambda client: client.get_schema(schema_id))\n        except _NotFound:",
                "lambda client: client.get_schema(schema_id))\n        except TransportError:",
            ),
        ),
        (REGISTRY,),
    ),
    Mutant(
        "records dropped that a registry outage held up",
        (
            Edit(
                LOOP,
                "self.polling.hold(todo)\n",
                "self.polling.hold(todo[1:])\n",
            ),
        ),
        (REGISTRY,),
    ),
    # -- models
    Mutant(
        "activation not written",
        (Edit(LOOP, "self.transaction.send([record])", "list([record])"),),
        (DRAIN,),
        sign=STUCK,
    ),
    Mutant(
        "activation not replayed",
        (
            Edit(
                LOOP,
                "        if piece.is_activated:\n",
                "        if False:\n",
            ),
        ),
        (MODELS,),
        tries=3,
    ),
    Mutant(
        "in-place model write",
        (
            Edit(
                ARTIFACTS,
                "        replace_file(models_dir, models_dir / CURRENT, ",
                "        Path.write_bytes(models_dir / CURRENT, ",
            ),
        ),
        (PUBLISHED,),
        sign="is refused",
        tries=3,
    ),
    Mutant(
        "model named before it is whole",
        (
            Edit(
                ARTIFACTS,
                "            _write_folder(models_dir, sha256, files, max_bytes)\n",
                "            replace_file(models_dir, models_dir / CURRENT, sha256.encode())\n"
                "            _write_folder(models_dir, sha256, files, max_bytes)\n",
            ),
        ),
        (PUBLISHED,),
        sign="is refused",
    ),
    Mutant(
        "model's arrays taken without their digest",
        (Edit(FORMAT, 'if hashlib.sha256(arrays).hexdigest() != stated["sha256"]:', "if False:"),),
        (MIXED_UP,),
        sign=STUCK,
    ),
    Mutant(
        "model's manifest taken without its digest",
        (Edit(FORMAT, "if digest(manifest) != sha256:", "if False:"),),
        (MIXED_UP,),
        sign=STUCK,
    ),
)
