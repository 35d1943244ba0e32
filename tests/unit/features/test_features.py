"""What a trained model sees of a row against its slow twin; time zones against a calendar."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for, params_for
from shared.features.vectors import FEATURE_NAMES, FEATURES, Calendar
from shared.kernels.trained.trained_rows import SPREAD, WITHOUT_MODEL, rarity_of
from shared.kernels.units import HOUR_MS
from shared.settings import FeatureSettings
from tests.reference import trained_rows as reference
from tests.support.models import DETECTORS, START_MS, series, trained

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
CALENDARS = {zone: Calendar.from_settings(FeatureSettings(timezone=zone)) for zone in ZONES}
HOURS = 110


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=60, deadline=None)
@given(st.integers(946_684_800_000, 4_102_444_799_999))
def test_calendar_knows_the_offset_of_any_time(zone: str, time_ms: int) -> None:
    calendar = CALENDARS[zone]
    period = int(np.searchsorted(calendar.transitions_ms, time_ms, side="right")) - 1
    moment = datetime.fromtimestamp(time_ms // 1000, UTC).astimezone(ZoneInfo(zone))
    offset = moment.utcoffset()
    assert offset is not None
    assert calendar.offsets_ms[period] == offset.total_seconds() * 1000


def entity(metrics: int) -> tuple[np.ndarray, np.ndarray]:
    """Hourly rows of an entity with a jump, a missing value and metrics that begin late."""
    values = series(HOURS, metrics, seed=4)
    values[80:83, 0] *= 1.5
    values[90, -1] = np.nan
    values[:30, metrics // 2] = np.nan
    return START_MS + np.arange(HOURS) * HOUR_MS, values


@pytest.mark.parametrize("metrics", [1, 3, 5])
def test_features_are_the_largest_of_each_view(metrics: int) -> None:
    time_ms, values = entity(metrics)
    state, params = EnsembleState(1, metrics), params_for(1.0)
    slots = np.arange(metrics, dtype=np.int32)[None]
    known = whole = 0
    for row in range(HOURS):
        given_row = Rows(np.zeros(1, np.int32), time_ms[[row]], values[[row]], slots)
        found = fold(state, given_row, limits_for(metrics), params, model=WITHOUT_MODEL)
        want, columns = reference.features_of(state, values[row], params.ready_days)
        # an episode that goes on restarts the spread behind the features
        restarted = (state.metrics["spread_now"] == state.metrics["spread_usual"]).any()
        compared = slice(0, SPREAD if restarted else FEATURES)
        np.testing.assert_allclose(found.features[0, compared], want[compared], rtol=1e-12)
        assert found.sources[0, compared].tolist() == columns[compared]
        whole += not restarted and not np.isnan(want[0])
        known += not np.isnan(want[0])
    assert whole > 20
    assert known == HOURS - (48 if metrics > 1 else 79)


def test_features_do_not_depend_on_the_batch() -> None:
    time_ms, values = entity(3)
    slots = np.tile(np.arange(3, dtype=np.int32), (HOURS, 1))
    whole = Rows(np.zeros(HOURS, np.int32), time_ms, values, slots)
    together = fold(EnsembleState(1, 3), whole, limits_for(3), model=WITHOUT_MODEL)
    state, parts = EnsembleState(1, 3), []
    for low in range(0, HOURS, 7):
        cut = slice(low, low + 7)
        part = Rows(whole.entity[cut], time_ms[cut], values[cut], slots[cut])
        parts.append(fold(state, part, limits_for(3), model=WITHOUT_MODEL))
    assert together.features.tobytes() == b"".join(part.features.tobytes() for part in parts)
    assert together.sources.tobytes() == b"".join(part.sources.tobytes() for part in parts)


def test_no_row_has_features_that_nobody_wants_or_that_is_late_or_a_duplicate() -> None:
    time_ms, values = entity(2)
    time_ms[100], time_ms[105] = time_ms[98], time_ms[104]
    values[105] = values[104]
    slots = np.tile(np.arange(2, dtype=np.int32), (HOURS, 1))
    rows = Rows(np.zeros(HOURS, np.int32), time_ms, values, slots)
    assert fold(EnsembleState(1, 2), rows, limits_for(2)).features.shape == (0, FEATURES)
    found = fold(EnsembleState(1, 2), rows, limits_for(2), model=WITHOUT_MODEL)
    assert np.isnan(found.features[[100, 105]]).all()
    assert (found.sources[[100, 105]] == -1).all()
    assert not np.isnan(found.features[[99, 101, 104, 106]]).any()


@pytest.mark.parametrize("detector", [one for one in DETECTORS if not one.sees_values])
def test_rarity_equals_the_twin(detector: object) -> None:
    model = trained(detector).model
    rows = np.abs(np.random.default_rng(1).normal(size=(40, FEATURES)))
    for row in (*rows, *(4.0 * rows[:5])):
        score = float(model.score(row[None])[0])
        want = reference.rarity_of(score, model.calibration.tolist())
        assert rarity_of(model.arrays, row) == pytest.approx(want, rel=1e-9)


def test_each_feature_has_a_name() -> None:
    assert len(set(FEATURE_NAMES)) == FEATURES
