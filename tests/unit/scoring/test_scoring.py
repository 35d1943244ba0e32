"""Scoring over a state that came from a snapshot: nothing is dropped before the log says who
judges.
"""

import numpy as np

from shared.events import Detector
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, QualitySettings


def rules(detector):
    return Rules(Configuration(detector, 5, DetectionSettings(), QualitySettings()), 10)


def test_what_the_members_remember_is_dropped_only_when_the_log_switches_to_a_trained_detector():
    state = PartitionState(0)
    state.ensemble.reserve(2, 3)
    state.ensemble.metrics["seen"] = 7
    scorer = Scorer(state, rules(Detector.ISOLATION_FOREST))
    assert (state.ensemble.metrics["seen"] == 7).all()
    scorer.use(None, rules(Detector.ENSEMBLE).configuration)
    assert (state.ensemble.metrics["seen"] == 7).all()
    scorer.use(None)
    assert len(state.ensemble.metrics) == 3
    scorer.use(None, rules(Detector.ONE_CLASS_SVM).configuration)
    assert len(state.ensemble.metrics) == 0
    assert np.array_equal(
        state.to_arrays()["ensemble_metrics"].shape, (0, state.ensemble.metrics.dtype.itemsize)
    )
