"""The training loop on a topic in memory with a fake clock: waiting, schedules, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import joblib
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import schemas
from consumer_training import service
from consumer_training.outside import Options
from consumer_training.reading import history
from consumer_training.report import MAX_PICTURES
from consumer_training.schedule import Schedule
from lapwing.backtest.feeds import open_labels
from shared import artifacts
from shared.batch import Batch
from shared.decode.avro.fingerprints import fingerprint_of
from shared.errors import ConfigError, DataError, LapwingError, TopicMismatch, TransportError
from shared.labels import find
from shared.models.signatures import Trust
from shared.operations.counters import EVENTS_CONSUMED, FIT_SECONDS
from shared.settings import ModelSettings, TopicSettings, TrainSettings
from tests.support.episodes import needs_speed
from tests.support.models import START_MS, STEP_MS
from tests.support.training_world import DAY_S, World

pytestmark = needs_speed


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take time; one test draws them."""
    monkeypatch.setattr(service, "MAX_PICTURES", 0)


@pytest.fixture
def logged() -> Iterator[list[Mapping[str, object]]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


def events(logs: list[Mapping[str, object]], name: str) -> list[Mapping[str, object]]:
    return [log for log in logs if log["event"] == name]


def test_once_publishes_a_model_with_everything_beside_it(
    tmp_path: Path, logged: list[Mapping[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_PICTURES", MAX_PICTURES)
    world = World(tmp_path)
    world.up_to = 150
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "entity,start,end,kind\n"
        f"host-0,{START_MS + 130 * STEP_MS},{START_MS + 400 * STEP_MS},spike\n"
    )
    world.service(Options(once=True, labels=labels)).run()
    sha256 = artifacts.current(tmp_path)
    model, manifest = (
        artifacts.load(tmp_path, sha256 or ""),
        artifacts.manifest(tmp_path, sha256 or ""),
    )
    assert model.metrics == ("cpu", "network_in")
    assert manifest["input"]["partitions"] == {
        "0": {"first_offset": 0, "next_offset": 300, "accepted": 300, "rejected": {}},
        "1": {"first_offset": 0, "next_offset": 150, "accepted": 150, "rejected": {}},
    }
    assert manifest["input"]["schema_sha256"] == [
        fingerprint_of(schemas.text(schemas.METRIC_EVENT)).sha256
    ]
    assert manifest["evaluation"]["rows"] == {"train": 183, "test": 123}
    assert manifest["evaluation"]["labels"]["windows"] == 1
    assert set(manifest["libraries"]) == {"python", "lapwing", "numpy", "scikit-learn", "numba"}
    folder = tmp_path / str(sha256)
    assert joblib.load(folder / "estimator.joblib").n_features_in_ == 7
    report = json.loads((folder / "report" / "report.json").read_text())
    drawn = {f"host-{k}.svg" for k in range(3)}
    assert {path.name for path in (folder / "report").iterdir()} == drawn | {
        "report.json",
        "entities.csv",
    }
    assert set(report["per_entity"]) == {"host-0", "host-1", "host-2"}
    assert report["sampling"]["entity_share"] == 1.0
    assert report["seeds"] == manifest["seeds"]
    assert world.counters.total(EVENTS_CONSUMED) == 450
    assert [metric for metric, rows in world.counters.histograms() if rows] == [FIT_SECONDS]
    assert [log["event"] for log in logged if "seeds" not in log["event"]] == [
        "input read",
        "model trained",
        "model published",
        "report written",
    ]


def test_a_model_of_another_topic_is_not_replaced_without_a_word(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    first, second = World(tmp_path), World(tmp_path)
    second.settings = second.settings.model_copy(
        update={"topics": TopicSettings(input="plant.metrics")}
    )
    for world in (first, first, second):
        world.up_to = 150
        world.service().run()
    (warning,) = events(logged, "replacing a model that was trained on another topic")
    assert "trained on metrics.cloudwatch.raw" in str(warning["because"])
    assert "the input is plant.metrics" in str(warning["because"])
    manifest = artifacts.manifest(tmp_path, artifacts.current(tmp_path) or "")
    assert (manifest["input"]["topic"], manifest["metrics"]) == (
        "plant.metrics",
        ["cpu", "network_in"],
    )


def test_same_input_same_artefact_with_any_number_of_threads(tmp_path: Path) -> None:
    published = []
    for name, threads in (("a", 1), ("b", 3)):
        world = World(tmp_path / name, threads=threads)
        world.up_to = 150
        world.time_s += 12_345.0 * len(published)
        world.service().run()
        published.append(artifacts.current(tmp_path / name))
    assert published[0] == published[1] is not None


def test_waits_and_says_how_many_rows_are_missing(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path)
    world.up_to = 20
    world.plan = {5.0: world.fill(110), 11.0: world.fill(150)}
    world.service().run()
    waiting = events(logged, "waiting for data")
    assert waiting[0]["missing_training_rows"] == 100
    assert waiting[0]["events_read"] == 60
    assert events(logged, "model trained")[0]["rows"] == 111
    assert world.reads == [{}, {0: 40, 1: 20}]
    assert 5.0 <= world.elapsed < 10.0


def test_more_entities_than_may_be_folded_are_read_in_part(
    tmp_path: Path, logged: list[Mapping[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_SERIES", 4)
    world = World(tmp_path, seed=2)
    world.up_to = 300
    world.service().run()
    (warning, *_) = events(logged, "too many entities to fold at once, reading a part of them")
    assert warning["entity_share"] == 0.5
    assert world.reads == [{}, {}]
    (trained,) = events(logged, "model trained")
    assert trained["entities"] in (1, 2)
    report = tmp_path / str(artifacts.current(tmp_path)) / "report" / "report.json"
    sampling = json.loads(report.read_text())["sampling"]
    assert sampling["entity_share"] == 0.5
    assert sampling["entities"] == trained["entities"]


def test_rows_that_teach_nothing_keep_the_last_model(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.up_to = 150
    world.service().run()
    before = artifacts.current(tmp_path)
    labels = tmp_path / "labels.csv"
    lines = [f"host-{k},{START_MS},{START_MS + 400 * STEP_MS},outage" for k in range(3)]
    labels.write_text("\n".join(["entity,start,end,kind", *lines]))
    with pytest.raises(LapwingError, match=r"no usable training row: 0 .*alarmed, 306 in labelled"):
        world.service(Options(once=True, labels=labels)).run()
    assert artifacts.current(tmp_path) == before is not None


def test_wait_has_a_limit(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.up_to = 20
    with pytest.raises(
        LapwingError,
        match=r"has 0 training rows after 3\d s, train.min_rows requires 100: 100 are missing",
    ) as caught:
        world.service(Options(once=True, wait_s=30.0)).run()
    assert caught.value.exit_code == 1
    assert artifacts.current(tmp_path) is None


def test_stop_ends_the_wait(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.plan = {20.0: world.stop}
    world.service(Options()).run()
    assert 20.0 <= world.elapsed < 23.0
    assert artifacts.current(tmp_path) is None


def test_first_scheduled_model_waits_until_the_backfill_is_over(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path, every="24h")
    world.up_to = 100
    world.plan = {
        0.5: world.fill(200),
        1.5: world.fill(300),
        2.5: world.fill(301),
        60.0: world.stop,
    }
    world.service(Options()).run()
    assert len(events(logged, "input is still growing, continuing to read")) == 2
    assert len(events(logged, "model trained")) == 1
    assert events(logged, "model trained")[0]["rows"] == 3 * 151


def test_runs_every_so_often_by_the_wall_clock(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path, every="24h", keep=2)
    world.up_to = 150
    world.plan = {k * DAY_S + 0.5: world.fill(150 + 50 * (k + 1)) for k in range(4)}
    world.plan[3.5 * DAY_S] = world.stop
    world.service(Options()).run()
    rows = [log["rows"] for log in events(logged, "model trained")]
    assert rows == [273, 273, 363, 453]
    assert next(log["in_s"] for log in events(logged, "next training")) == pytest.approx(
        DAY_S, abs=2
    )
    assert len([path for path in tmp_path.iterdir() if len(path.name) == 64]) == 2


def test_cron_line_waits_for_its_time_where_a_model_is_in_place(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path)
    world.up_to = 150
    world.service().run()
    logged.clear()
    world = World(tmp_path, cron="0 3 * * *")
    world.up_to = 200
    first = Schedule(cron="0 3 * * *").next_s(0.0, world.time_s) - world.time_s
    world.plan = {first - 2: lambda: logged.append({"event": "almost"}), first + 10: world.stop}
    world.service(Options()).run()
    assert [log["event"] for log in logged][:4] == [
        "next training",
        "almost",
        "input read",
        "model trained",
    ]


def test_failed_run_is_logged_and_the_next_one_comes(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path, every="1h")
    world.up_to = 150
    world.plan = {
        1800.0: lambda: setattr(world, "down", TopicMismatch("the topic has gone")),
        4000.0: lambda: setattr(world, "down", None),
        4001.0: world.fill(200),
        7300.0: world.stop,
    }
    world.service(Options()).run()
    assert [
        log["because"] for log in events(logged, "training failed, keeping the last model")
    ] == ["the topic has gone"]
    assert [log["rows"] for log in events(logged, "model trained")] == [183, 273]


def test_a_topic_that_is_deleted_while_it_is_read_keeps_the_last_model(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.up_to = 150
    world.service().run()
    before = artifacts.current(tmp_path)

    class Deleted(World):
        def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
            yield next(iter(super().read(start, end)))
            raise TopicMismatch("there is no topic metrics")

    world = Deleted(tmp_path)
    world.up_to = 200
    with pytest.raises(TopicMismatch, match="there is no topic metrics"):
        world.service().run()
    assert artifacts.current(tmp_path) == before is not None


def test_failure_of_the_first_run_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    world = World(tmp_path / "file" / "models", every="1h")
    with pytest.raises(ConfigError, match="models_dir"):
        world.service(Options()).run()


def test_outage_is_survived(tmp_path: Path, logged: list[Mapping[str, object]]) -> None:
    world = World(tmp_path)
    world.up_to = 150
    world.down = TransportError("broker localhost:9092 does not answer")
    world.plan = {100.0: lambda: setattr(world, "down", None)}
    world.service().run()
    first, second = events(logged, "no answer")
    assert float(str(first["seconds"])) < 10
    assert "localhost:9092" in str(second["because"])
    assert artifacts.current(tmp_path) is not None


@pytest.mark.parametrize(("retriable", "lasted_s"), [(True, 300.0), (False, 0.0)])
def test_outage_that_does_not_end_is_raised(
    tmp_path: Path, retriable: bool, lasted_s: float
) -> None:
    world = World(tmp_path)
    world.down = TransportError("refused", retriable=retriable)
    with pytest.raises(TransportError, match="refused"):
        world.service().run()
    assert lasted_s <= world.elapsed <= lasted_s + 5


def test_labels_that_cannot_be_read_are_an_error_before_anything_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(DataError, match=r"nowhere.json: it cannot be read"):
        world.service(Options(labels=tmp_path / "nowhere.json"))


@pytest.mark.parametrize(
    "text",
    [
        "entity,start,end\nhost-0,2024-01-01,2024-01-02T03:04:05Z\n",
        '{"windows": {"host-0": [["2024-01-01", "2024-01-02"]]}}',
        (
            '{"realAWSCloudwatch/host-0.csv": [["2024-01-01 00:00:00.000000", "2024-01-02'
            ' 00:00:00.000000"]]}'
        ),
    ],
)
def test_training_and_backtest_read_the_same_label_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels"
    file.write_text(f"\ufeff{text}", "utf-8")
    service = World(tmp_path).service(Options(labels=file))
    assert service.labels == open_labels(file)
    assert len(find(service.labels or {}, "host-0") or ()) == 1


def test_labels_without_a_matching_entity_are_reported(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path)
    world.up_to = 150
    labels = tmp_path / "labels.csv"
    labels.write_text("entity,start,end\nweb-9,2024-01-01,2024-01-02\n")
    world.service(Options(once=True, labels=labels)).run()
    (log,) = events(logged, "no label matches an entity of the input")
    assert log["keys"] == ["web-9"]
    assert log["entities"] == ["host-0", "host-1", "host-2"]


def test_without_pictures_the_report_is_the_figures(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    world = World(tmp_path)
    world.up_to = 150
    world.service().run()
    (log,) = events(logged, "report written")
    assert log["pictures"] == 0
    report = tmp_path / str(artifacts.current(tmp_path)) / "report"
    assert sorted(path.name for path in report.iterdir()) == ["entities.csv", "report.json"]


def test_current_that_is_damaged_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("rubbish")
    world = World(tmp_path, every="1d")
    world.up_to = 150
    world.plan = {30.0: world.stop}
    world.service(Options()).run()
    artifacts.load(tmp_path, artifacts.current(tmp_path) or "")


# -- schedule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "seconds"),
    [("90s", 90.0), ("2m", 120.0), ("1.5h", 5400.0), ("24h", DAY_S), ("7d", 7 * DAY_S)],
)
def test_intervals(every: str, seconds: float) -> None:
    schedule = Schedule.from_settings(TrainSettings(every=every))
    assert schedule == Schedule(every_s=seconds)
    assert schedule.next_s(1000.0, 1000.0) == 1000.0 + seconds
    assert schedule.next_s(1000.0, 1000.0 + 2.5 * seconds) == 1000.0 + 3 * seconds
    assert schedule.next_s(1000.0, 1000.0 + seconds) == 1000.0 + 2 * seconds


def test_clock_that_was_set_back_does_not_put_the_next_run_off_for_ever() -> None:
    assert Schedule(every_s=60.0).next_s(1_000_000.0, 500.0) == 560.0


def test_cron_is_utc() -> None:
    start_s = 1_704_067_200.0
    assert Schedule(cron="30 3 * * *").next_s(0.0, start_s) == start_s + 3.5 * 3600
    assert Schedule(cron="30 3 * * *").next_s(0.0, start_s + 3.5 * 3600) == start_s + 27.5 * 3600


def test_no_schedule() -> None:
    assert Schedule.from_settings(TrainSettings()) is None


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"cron": "every day"}, "train.cron: 'every day' is not a cron line"),
        ({"every": "0s"}, "train.every: 0 s; the interval must be above 0"),
    ],
)
def test_schedule_that_makes_no_sense_names_the_setting(
    settings: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Schedule.from_settings(TrainSettings(**settings))


def test_cron_that_never_comes_true_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="matches no date"):
        Schedule(cron="0 0 30 2 *").next_s(0.0, 1_704_067_200.0)


def with_models(world: World, **models: object) -> World:
    world.settings = world.settings.model_copy(update={"models": ModelSettings(**models)})  # type: ignore[arg-type]
    world.up_to = 150
    return world


def test_published_model_is_signed_with_the_key_of_the_settings(
    tmp_path: Path, logged: list[Mapping[str, object]]
) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    world = with_models(World(tmp_path / "models"), sign_key=str(tmp_path / "key.pem"))
    world.service(Options(once=True)).run()
    name = artifacts.current(tmp_path / "models") or ""
    artifacts.load(tmp_path / "models", name, Trust(keys=(key.public_key(),)))
    assert events(logged, "model published")[0]["signed"] is True


def test_key_that_cannot_be_read_is_reported_before_training(tmp_path: Path) -> None:
    world = with_models(World(tmp_path / "models"), sign_key=str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigError, match=r"models.sign_key: .*absent.pem does not exist"):
        world.service(Options(once=True)).run()
    assert world.reads == []


def test_model_beyond_the_setting_is_not_published(tmp_path: Path) -> None:
    world = with_models(
        World(tmp_path, trees=300, samples=256, member="isolation_forest"), max_bytes=65_536
    )
    with pytest.raises(
        ConfigError, match=r"models.max_bytes allows 65536 bytes, the model has \d+: increase it in"
    ):
        world.service(Options(once=True)).run()
    assert artifacts.current(tmp_path) is None
