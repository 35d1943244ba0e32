"""Two recorded series and their labels, written once."""

from __future__ import annotations

import pytest

from tests.support.backtests import write_labels, write_two_series


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_two_series(folder)
    return folder


@pytest.fixture(scope="session")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    write_labels(path)
    return path
