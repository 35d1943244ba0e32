"""The page's alarm rate of a stream is what ``lapwing backtest`` says of the same stream."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from starlette.testclient import TestClient

from consumer_prediction.outgoing import Encoder, SchemaIds
from dashboard.history.queries import History
from dashboard.history.results import decode
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.server import history_file, make_app
from lapwing.backtest.feeds import InputOptions, open_feed
from lapwing.backtest.figures import count, figures
from lapwing.backtest.run import Variant, run
from shared.batch import Batch
from shared.incidents.grouping import Rules
from shared.scoring.configuration import Configuration
from shared.settings import load_settings
from tests.support.page_records import SCHEMAS, WRITTEN_MS, activation, arrived

DAYS, ASKED = 8.0, 1.0


def test_alarms_per_entity_and_day(tmp_path):
    """Eight days of six hosts, two of them warm-up: the page measures the newest seven days."""
    asked = {"alarms_per_day": ASKED}
    settings = load_settings({"state_dir": tmp_path, "detection": asked}, environ={})
    topics = settings.topics
    encoder = Encoder(topics, SchemaIds(1, 2, 4), "lapwing-prediction", 10**6)
    streams = {topics.scores: "scores", topics.anomalies: "anomalies"}
    store = Store(history_file(settings), Retention(30, 10**9))
    store.apply([arrived("activations", [activation(0, 0, **asked)])])

    def write(_, outcome, state):
        """Write an outcome as the page reads it from the topics."""
        for records in encoder.outcome(outcome, state):
            rows = np.arange(len(records), dtype=np.int64)
            written = np.full(len(records), WRITTEN_MS, np.int64)
            batch = Batch(records.topic, 0, records.values, records.keys, rows, written)
            store.apply([decode(batch, streams[records.topic], SCHEMAS.get)])

    feed = open_feed(settings, InputOptions(fleet=6, days=DAYS, seed=3))
    variant = Variant("first", Configuration.from_settings(settings))
    (result,) = run(feed, [variant], observe=write)
    backtest = figures(result, count(result, None, {}), Rules.of(settings.incidents))
    with closing(store):
        history = History(store.path, store)
        app = make_app(settings, history, Hub(5), dict, lambda: "")
        client = TestClient(app, base_url="http://127.0.0.1:8000")
        page = client.get("/v1/pipeline").json()
    assert page["history"]["entities"] == backtest["entities"] == 6
    assert page["budget"]["requested"] == backtest["budget"]["asked"] == ASKED
    opened = {one.episode_id for one in result.alarms if not one.cold_start}
    assert page["budget"]["episodes"] == len(opened) > 2
    # The backtest also counts the interval before the first record after the warm-up.
    assert page["budget"]["achieved"] == pytest.approx(backtest["budget"]["achieved"], rel=0.001)
