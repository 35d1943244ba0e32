"""``lapwing demo``: replay, training and prediction on this machine, on an embedded broker.

Each service is a process of its own.

Invariant: every process that was started has ended when the demo ends, for whatever reason.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

from consumer_training.packages import require_packages
from dashboard.__main__ import require_packages as require_page_packages
from lapwing.demo.children import Children
from lapwing.demo.page import write_environment
from lapwing.demo.plan import DemoOptions, DemoPlan, make_plan
from lapwing.demo.run import Demo
from lapwing.demo.screen import Screen
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from producer.sources import check_times, open_source
from shared.errors import ConfigError
from shared.kafka import topic_specs
from shared.settings import Settings, load_settings


def run(options: DemoOptions, environ: Mapping[str, str], started_s: float) -> int:
    """Run the demo; return the exit code: 0 when all counts agree, else 1.

    environ   : the user's; settings in it are kept but for those that the demo decides itself
    started_s : monotonic seconds at which the command began
    raises    : LapwingError; by then everything that was started has ended
    """
    options.check()
    require_packages("the demo")
    if options.page:
        require_page_packages()
    source = open_source(options.source)
    requested = load_settings(environ=environ)
    check_times(source, requested.input)
    plan = make_plan(source, options.backfill, requested.topics.partitions)
    with ExitStack() as stack, _signals() as should_stop:
        folder = stack.enter_context(_folder(options.keep))
        broker = stack.enter_context(closing(EmbeddedBroker(_topics(requested, plan))))
        registry = stack.enter_context(closing(serve("127.0.0.1", 0)))
        environment = _environment(environ, plan, broker.client_settings, registry.url, folder)
        write_environment(folder, environment)
        settings = load_settings(environ=environment)
        children = stack.enter_context(
            closing(Children(environment, folder, requested.telemetry.port))
        )
        screen = stack.enter_context(Screen(options.as_json))
        demo = Demo(options, plan, settings, children, screen, should_stop, started_s)
        demo.describe(source.name, len(source.stream.entities), source.notes)
        summary = demo.run()
        screen.finish(demo.frame(), summary)
    if options.picture:
        screen.save(options.picture)
    if options.as_json:
        # this is the command's output
        print(json.dumps(summary.document()), flush=True)  # noqa: T201
    return 0 if summary.agrees else 1


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="lapwing-demo-") as name:
            yield Path(name)
        return
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--keep {kept}: {error.strerror or error}") from error
    yield kept.resolve()


def _topics(settings: Settings, plan: DemoPlan) -> dict[str, int]:
    sized = settings.model_copy(
        update={"topics": settings.topics.model_copy(update={"partitions": plan.partitions})}
    )
    return {spec.name: spec.partitions for spec in topic_specs(sized)}


def _environment(
    environ: Mapping[str, str],
    plan: DemoPlan,
    client: Mapping[str, str],
    registry_url: str,
    folder: Path,
) -> dict[str, str]:
    """Return the children's environment: user settings, with our broker, registry and folders."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith("LAPWING_KAFKA__")
    }
    fixed = {
        f"LAPWING_KAFKA__{name.upper().replace('.', '_')}": value for name, value in client.items()
    }
    return kept | fixed | {
        "KAFKA_BOOTSTRAP_SERVERS": "",
        "SCHEMA_REGISTRY_URL": "",
        "LAPWING_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
        "LAPWING_REGISTRY__URL": registry_url,
        "LAPWING_REGISTRY__BASIC_AUTH": "",
        "LAPWING_TOPICS__PARTITIONS": str(plan.partitions),
        "LAPWING_MODELS_DIR": str(folder / "models"),
        "LAPWING_STATE_DIR": str(folder / "state"),
        "LAPWING_SLOT": "",
        "LAPWING_PREDICT__DELIVERY": "at-least-once",
        "LAPWING_PREDICT__MODEL_POLL_S": "0.2",
        "LAPWING_TELEMETRY__PORT": "0",
        "LAPWING_TELEMETRY__LOG_FORMAT": "json",
    }  # fmt: skip


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Treat Ctrl-C and SIGTERM as a request to stop; yield whether one came.

    The second one raises KeyboardInterrupt.
    """
    received: list[int] = []
    before = {}

    def on_signal(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, on_signal)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
