"""Reasons that an on-call engineer reads, for each kind of deviation."""

import numpy as np
import pytest

from shared.scoring.explaining import _sentence

NAN = float("nan")
USUAL = np.array([40.0, 40.0, 2.0, 0.0])
ROW = np.array([124.0, 90.0, 12.0, 50.0])


def message(feature="value", rolling=ROW, centre=USUAL, time_share=0.0):
    return _sentence(
        "cpu", feature, np.array(rolling, float), np.array(centre, float), 12, time_share
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "cpu is 124, 3.1x its usual 40"),
        ({"rolling": [4.0, 30.0, 1.0, 0.0]}, "cpu is 4, 0.1 of its usual 40"),
        ({"rolling": [41.0, 40.0, 1.0, 0.0]}, "cpu is 41, usually 40"),
        ({"rolling": [-4.0, 0.0, 1.0, 0.0]}, "cpu is -4, usually 40"),
        ({"rolling": [4e9, 0.0, 1.0, 0.0]}, "cpu is 4,000,000,000, 1.0e+08x its usual 40"),
        ({"centre": [NAN] * 4}, "cpu is 124, never seen before"),
        ({"feature": "mean"}, "cpu averages 90 over 12 samples, 2.2x its usual 40"),
        ({"feature": "spread"}, "cpu varies by 12 over 12 samples, 6.0x its usual 2"),
        ({"feature": "difference"}, "cpu rose by 50 in one step to 124"),
        (
            {"feature": "difference", "rolling": [10.0, 40.0, 1.0, -1500.0]},
            "cpu fell by 1,500 in one step to 10",
        ),
        ({"feature": "missing", "rolling": [NAN] * 4}, "cpu is missing"),
        ({"rolling": [NAN] * 4}, "cpu is missing"),
        ({"time_share": 0.5}, "cpu is 124, 3.1x its usual 40, at an unusual hour"),
    ],
)
def test_the_reason_says_what_a_person_would(arguments, sentence):
    assert message(**arguments) == sentence
