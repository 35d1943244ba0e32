"""Perturbed constants reach the scorer, and a draw is always the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from benchmarks.builds import ROOT, perturbed_build
from benchmarks.perturbed import perturbing
from shared.ensemble.fold import params_for


def test_a_draw_changes_every_constant_but_the_threshold():
    base = params_for(1.2)
    first, again, other = (perturbing(params_for, draw)(1.2, "ensemble") for draw in (0, 0, 1))
    assert first == again != other
    assert first.threshold == base.threshold
    ratios = np.array(
        [
            a / b
            for name, a, b in zip(base._fields, first, base, strict=True)
            if b and name != "threshold"
        ]
    )
    assert ((ratios >= 0.75) & (ratios <= 1.25) & (ratios != 1)).all()


def test_the_command_line_runs_with_the_draw(tmp_path):
    build = perturbed_build(1)
    script = (
        "import runpy, sys; from shared.scoring import scorer; sys.argv[1:] = ['1', '--version']\n"
        "try: runpy.run_module('benchmarks.perturbed', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print(scorer.params_for.__qualname__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[0].startswith("lapwing ")
    assert done.stdout.splitlines()[1] == "perturbing.<locals>.params_for"
    assert build.command[1:] == ("-m", "benchmarks.perturbed", "1")
