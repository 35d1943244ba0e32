"""``lapwing`` with perturbed constants: ``python -m benchmarks.perturbed DRAW COMMAND ...``.

Every constant of the ensemble that can be tuned, except the threshold, is multiplied by a factor
drawn evenly from .75 to 1.25. A judge run on some draws shows whether its figures depend on exact
values.

Invariant: a draw is the same in every process, and the same as that of ``benchmarks.nab``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice

from benchmarks.nab.robustness import draws
from lapwing.__main__ import main
from shared.ensemble.fold import EnsembleParams
from shared.scoring import scorer

Params = Callable[[float, str], EnsembleParams]


def perturbing(original: Params, draw: int) -> Params:
    """Return ``params_for`` with the constants of a draw; the threshold is kept."""

    def params_for(threshold: float, detector: str = "ensemble") -> EnsembleParams:
        base = original(threshold, detector)
        (drawn,) = islice(draws(base, draw + 1), draw, None)
        return drawn._replace(threshold=base.threshold)

    return params_for


if __name__ == "__main__":
    number = int(sys.argv.pop(1))
    scorer.params_for = perturbing(scorer.params_for, number)  # type: ignore[assignment, attr-defined]
    sys.exit(main())
