"""A configuration's text says everything, and only what is allowed is read back."""

from datetime import UTC, datetime

import numpy as np
import pytest

from shared.errors import ConfigError, LapwingError
from shared.events import Activation, Detector
from shared.scoring.configuration import Configuration
from shared.settings import load_settings

GIVEN = {
    "LAPWING_DETECTOR": "jump",
    "LAPWING_DETECTION__THRESHOLD": "1.6",
    "LAPWING_DETECTION__ALARMS_PER_DAY": "0.5",
    "LAPWING_DETECTION__METRICS": (
        '{"cpu": {"direction": "up", "min_absolute": 5}, "disk": {"min_relative": 0.2}}'
    ),
    "LAPWING_QUALITY__FORGET_DAYS": "7",
    "LAPWING_FEATURES__TIMEZONE": "Europe/Berlin",
}


def test_a_text_is_read_back():
    for environ in ({}, GIVEN):
        given = Configuration.from_settings(load_settings(environ=environ))
        assert Configuration.from_text(given.text) == given
        assert Configuration.from_text(given.text).text == given.text
    assert given.detector is Detector.JUMP
    assert given.detection.metrics["cpu"].direction == "up"
    assert given.detection.metrics["cpu"].min_relative is None


def test_other_settings_have_another_id():
    plain, other = (
        Configuration.from_settings(load_settings(environ=environ)) for environ in ({}, GIVEN)
    )
    ids = {Activation("", 0, settings=one.text).settings_id for one in (plain, other)}
    assert len(ids) == 2
    assert Activation("", 0, settings=plain.text) == Activation(
        "", 0, settings_id=Activation("", 0, settings=plain.text).settings_id
    )


@pytest.mark.parametrize("text", ["", "{}", '{"detector": "oracle"}', "[1]"])
def test_what_is_not_understood_is_shown(text):
    with pytest.raises(LapwingError, match="not understood"):
        Configuration.from_text(text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DETECTION__THRESHOLD", "0", "greater than 0"),
        ("DETECTION__THRESHOLD", "11", "less than or equal to 10"),
        ("DETECTION__ALARMS_PER_DAY", "-1", "greater than 0"),
        ("DETECTION__WARMUP_SAMPLES", "100", "it is called detection.warmup_days"),
        ("DETECTION__WARMUP_DAYS", "0", "greater than or equal to 0.01"),
        ("DETECTION__MAX_LATENESS_H", "-1", "greater than or equal to 0"),
        ("DETECTION__DIRECTION", "sideways", "'both', 'up' or 'down'"),
        ("DETECTION__METRICS", '{"cpu": {"direction": "left"}}', "'both', 'up' or 'down'"),
        ("DETECTION__METRICS", '{"cpu": {"minimum": 1}}', "no such setting"),
        ("DETECTION__MIN_ABSOLUTE", "inf", "finite"),
        ("QUALITY__GAP_INTERVALS", "1", "greater than or equal to 2"),
        ("DETECTOR", "oracle", "ensemble"),
        ("DETECTOR", "novelty", "was removed: use course"),
        ("DETECTOR", "burst", "was removed: use jump"),
        ("DETECTOR", "neighbours", "was removed: use course"),
    ],
)
def test_impossible_settings_are_refused_with_what_is_allowed(name, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(environ={f"LAPWING_{name}": value})
    assert f"LAPWING_{name}" in str(caught.value)


def test_a_trained_detector_takes_its_own_models_only():
    def takes(detector):
        settings = load_settings(environ={"LAPWING_DETECTOR": detector})
        configuration = Configuration.from_settings(settings)
        trained = (Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM)
        return [one.value for one in trained if configuration.takes(one)]

    assert takes("ensemble") == ["isolation_forest", "one_class_svm"]
    assert takes("one_class_svm") == ["one_class_svm"]
    assert takes("course") == []


def test_a_zone_is_a_table_of_its_own_changes():
    plain, berlin = (
        Configuration.from_settings(load_settings(environ=environ))
        for environ in ({}, {"LAPWING_FEATURES__TIMEZONE": "Europe/Berlin"})
    )
    assert plain.zone == ()
    assert plain.zone_arrays[1].tolist() == [0]
    changes, shifts = berlin.zone_arrays
    summer = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000)
    winter = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
    at = [shifts[np.searchsorted(changes, t, side="right") - 1] for t in (summer, winter)]
    assert at == [7_200_000, 3_600_000]
    jump = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp() * 1000)
    assert jump in changes.tolist()
    assert plain.detection_digest != berlin.detection_digest
    assert all(any(one.detection_digest) for one in (plain, berlin))
