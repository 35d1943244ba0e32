"""``python -m consumer_prediction``: score the input until SIGTERM; settings come from the
environment or ``--config``.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.errors import LapwingError
from shared.failpoints import arm


def main(argv: Sequence[str] | None = None) -> int:
    """Run the predictor; return the exit code."""
    options = _parser().parse_args(argv)
    from shared.settings import load_settings

    try:
        settings = load_settings(_flags(options), options.config)
        arm(os.environ.get("LAPWING_FAILPOINT", ""), lambda: os.kill(os.getpid(), signal.SIGKILL))
        from consumer_prediction.connection import KafkaConnection
        from shared.telemetry import configure

        configure(settings.telemetry)
        connection = KafkaConnection(settings)
        with _quick_imports():
            from consumer_prediction.service import run
            from shared.counters import Counters
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: asked.append(received))
        run(settings, Counters(), connection, lambda: bool(asked))
    except LapwingError as error:
        print(f"lapwing predict: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Import without what only costs time, for a killed predictor is waited for.

    That is the search for garbage where there is none, and scipy: numba loads it for a BLAS that no
    kernel calls.
    """
    gc.disable()
    hidden = sys.modules.setdefault("scipy", None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["scipy"]
        gc.enable()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lapwing predict", description="Score every event of the input topic, in real time."
    )
    parser.add_argument("--config", type=Path, help="settings file (TOML)")
    parser.add_argument(
        "--delivery", choices=("exactly-once", "at-least-once"), help="predict.delivery"
    )
    parser.add_argument("--group", help="predict.group: the consumer group")
    parser.add_argument("--slot", help="slot: stable name of this predictor, another one for each")
    parser.add_argument("--models-dir", type=Path, help="models_dir")
    parser.add_argument("--state-dir", type=Path, help="state_dir")
    return parser


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    top = {name: getattr(options, name) for name in ("slot", "models_dir", "state_dir")}
    predict = {name: getattr(options, name) for name in ("delivery", "group")}
    given = {name: value for name, value in top.items() if value is not None}
    inner = {name: value for name, value in predict.items() if value is not None}
    return given | ({"predict": inner} if inner else {})


if __name__ == "__main__":
    sys.exit(main())
