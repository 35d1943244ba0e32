"""The testbed of all rows: a broker behind a proxy, a registry, models, streams and oracles.

Invariant: one broker for the whole suite, and three others for the rows about several brokers; each
           run has its own topics, group and folders.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from consumer_prediction.outgoing import Encoder
from consumer_prediction.service import result_schemas
from consumer_training.training import train
from lapwing.topics import ensure
from shared import artifacts
from shared.events import Detector
from shared.kafka import Admin, input_limit_bytes, topic_specs
from shared.registry import Registry
from shared.settings import FeatureSettings, Settings, TrainSettings, load_settings
from tests.faults.content import Content, Mix, Oracle, Switch, evolved_schemas
from tests.support.models import rows_of, series
from tests.support.services import broker, fixtures
from tests.support.services.auditor import Coordinates
from tests.support.services.proxy import Proxy
from tests.support.services.registry import IMAGE, ContainerRegistry, MavenRegistry
from tests.support.services.secured import Security
from tests.support.services.service import free_port

DATASET, PARTITIONS = "faults", 6
METRICS = ("cpu", "network_in", "disk_write")


class Testbed:
    """Services that are started once, and values that are computed once.

    folder   : folder for models, states and logs
    detector : detector of every run
    seed     : seed of the streams
    engine   : Kafka client of the predictors
    protocol : of their group, classic or consumer
    threads  : ``predict.threads`` of the predictors
    brokers  : number of brokers; only a single one is behind the proxy, several replicate every
               record to each of them
    capacity : records per second of one predictor, once a row has measured it
    tree     : source tree that predictors run from; None = this one
    patience_s : upper limit of every wait in a run
    """

    def __init__(
        self,
        folder: Path,
        detector: Detector,
        seed: int,
        *,
        engine: str = "auto",
        protocol: str = "classic",
        brokers: int = 1,
        threads: int = 1,
    ) -> None:
        self.folder = folder
        self.detector = detector
        self.seed = seed
        self.engine = engine
        self.protocol = protocol
        self.threads = threads
        self.brokers = brokers
        self.folder.mkdir(exist_ok=True)
        behind, before = free_port(), free_port()
        kafka_kind = fixtures.kind("Kafka", broker.image(), "KAFKA_BOOTSTRAP_SERVERS")
        self.kafka = broker.new_kafka(
            kafka_kind, (behind, before) if brokers == 1 else None, brokers=brokers
        )
        self.cluster: Testbed | None = None
        self.secured: Security | None = None
        kind = fixtures.kind("schema registry", IMAGE, "SCHEMA_REGISTRY_URL")
        self.registry = (
            ContainerRegistry(self.kafka.address) if kind == "container" else MavenRegistry()
        )
        self.proxy = Proxy(before, behind)
        self.capacity: float | None = None
        self.tree: Path | None = None
        self.patience_s = math.inf
        self._contents: dict[str, Content] = {}
        self._oracles: dict[str, Oracle] = {}
        self._runs = 0
        try:
            self.kafka.start()
            self.registry.start()
            self.models = self._train()
            self.ids = self._register()
        except BaseException:
            self.close()
            raise

    @property
    def member(self) -> Detector:
        """What the models are."""
        return self.detector if self.detector.is_trained else Detector.ISOLATION_FOREST

    def close(self) -> None:
        if self.cluster is not None:
            self.cluster.close()
        if self.secured is not None:
            self.secured.close()
        self.proxy.close()
        self.registry.close()
        self.kafka.close()

    def settings(self, **environ: str) -> Settings:
        """Return the settings of a run: the environment that its predictors get."""
        return load_settings(environ=self.environ(**environ))

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a predictor, as a user would set it."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "SCHEMA_REGISTRY_URL": self.registry.url,
            "LAPWING_DETECTOR": self.detector.value,
            "LAPWING_TOPICS__DATASET": DATASET,
            "LAPWING_TOPICS__PARTITIONS": str(PARTITIONS),
            "LAPWING_TOPICS__REPLICATION": str(self.brokers),
            "LAPWING_PREDICT__SNAPSHOT_INTERVAL_S": "1",
            "LAPWING_TELEMETRY__LOG_FORMAT": "json",
            "LAPWING_ENGINE": self.engine,
            "LAPWING_KAFKA__GROUP_PROTOCOL": self.protocol,
            "LAPWING_PREDICT__THREADS": str(self.threads),
        } | more

    @contextmanager
    def other_client(self, engine: str, protocol: str) -> Iterator[None]:
        """Run predictors with another Kafka client, or in another group protocol, meanwhile."""
        usual = self.engine, self.protocol
        self.engine, self.protocol = engine, protocol
        try:
            yield
        finally:
            self.engine, self.protocol = usual

    def three_brokers(self) -> Testbed:
        """Return a testbed of three brokers, started on first use and closed with this one."""
        if self.cluster is None:
            self.cluster = Testbed(
                self.folder / "cluster",
                self.detector,
                self.seed,
                engine=self.engine,
                protocol=self.protocol,
                brokers=3,
                threads=self.threads,
            )
        self.cluster.tree, self.cluster.patience_s = self.tree, self.patience_s
        return self.cluster

    def new_name(self) -> str:
        self._runs += 1
        return f"run{self._runs}"

    def fresh_topics(self, settings: Settings) -> None:
        """Recreate all topics, empty."""
        admin = AdminClient({"bootstrap.servers": settings.bootstrap})
        names = [spec.name for spec in topic_specs(settings)]
        for future in admin.delete_topics(names, operation_timeout=10).values():
            try:
                future.result(15)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        deadline = time.monotonic() + 15
        while (
            set(names) & set(admin.list_topics(timeout=10).topics) and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        # A topic of the same name that comes too soon may take its first records into the log that
        # is being deleted.
        time.sleep(1.0)
        Admin(settings).ensure_topics(topic_specs(settings))

    def content(self, mix: Mix) -> Content:
        key = repr(mix)
        if key not in self._contents:
            self._contents[key] = Content(self.seed, self.ids, PARTITIONS, mix)
        return self._contents[key]

    def oracle(
        self, content: Content, switches: Mapping[Coordinates, Switch], folder: Path
    ) -> Oracle:
        """Return the oracle of a stream with these model switches; the default one is cached."""
        key = repr((content.mix, sorted(switches.items())))
        usual = all(offset == 0 for _, offset in switches)
        if not usual or key not in self._oracles:
            settings = self.settings(LAPWING_MODELS_DIR=str(folder))
            encoder = Encoder(
                settings.topics, result_schemas(settings), "oracle", input_limit_bytes(settings)
            )
            oracle = Oracle(content, settings, encoder, switches)
            if not usual:
                return oracle
            self._oracles[key] = oracle
        return self._oracles[key]

    def copy_models(self, target: Path, count: int) -> list[str]:
        """Publish the first ``count`` models into a run's folder; return their SHA-256."""
        target.mkdir(parents=True, exist_ok=True)
        return [self.publish_next(target, number) for number in range(count)]

    def publish_next(self, target: Path, number: int) -> str:
        """Publish one model into a run's folder, as training does; return its SHA-256."""
        sha256 = self.models[number]
        if not (target / sha256).exists():
            shutil.copytree(self.folder / "models" / sha256, target / sha256)
        point(target, sha256)
        return sha256

    def restore(self) -> None:
        """Repair what an aborted run may have left, so that every service answers again."""
        self.proxy.mend()
        self.proxy.delay_s = 0.0
        for service in (self.kafka, self.registry):
            service.thaw() if service.alive() else service.start()
        if self.cluster is not None:
            self.cluster.restore()

    def _train(self) -> list[str]:
        """Publish two models for the stream and one with other metrics; return their SHA-256."""
        options = TrainSettings(trees=20, samples=64, min_rows=100, svm_rows=150)
        published = []
        for seed, metrics in ((1, METRICS), (2, METRICS), (3, ("temperature", "humidity"))):
            hosts = {
                f"host-{k}": series(300, len(metrics), seed=100 * seed + k) * 30.0
                for k in range(12)
            }
            made = train(
                rows_of(hosts, metrics),
                self.member,
                FeatureSettings(),
                options.model_copy(update={"seed": seed}),
            )
            published.append(
                artifacts.publish(
                    self.folder / "models", made.model, made.facts, made.canary
                ).sha256
            )
        assert len(set(published)) == 3
        assert np.isfinite(made.canary).all()
        return published

    def _register(self) -> dict[str, int]:
        settings = self.settings()
        self.fresh_topics(settings)
        ensure(settings).checked()
        registry = Registry(settings.registry)
        ids: dict[str, int] = {}
        for name, text in evolved_schemas().items():
            subject = f"{settings.topics.input}-{'value' if name != 'unfit' else 'note'}"
            ids.setdefault(name, registry.register(subject, text, "BACKWARD"))
        return ids


def point(target: Path, sha256: str) -> None:
    """Replace CURRENT as training does."""
    scratch = target / ".CURRENT.new"
    scratch.write_text(f"{sha256}\n")
    scratch.replace(target / artifacts.CURRENT)
