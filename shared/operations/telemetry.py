"""Logs by structlog, metrics by prometheus_client, and an HTTP thread for scrapes and probes.

Invariant: metrics are read here and never changed; a failing scrape or probe never affects the
service's loop.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from shared.errors import ConfigError
from shared.events import STATE_VERSION
from shared.operations.counters import BUILD_INFO, Counters, Histogram, Metric
from shared.settings import TelemetrySettings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Logger = FilteringBoundLogger
"""``info(event, **fields)`` and the other levels; the event's name comes first."""


def logger(**fields: Any) -> Logger:
    """Return a logger that adds these fields to each line; works before and after ``configure``."""
    return cast(Logger, structlog.get_logger(**fields))


def configure(settings: TelemetrySettings, stream: TextIO | None = None) -> None:
    """Send log lines to a stream: readable text on a terminal, else JSON.

    ``telemetry.log_format`` overrides that.

    stream : None = standard error; also for lines of the standard library's ``logging``
    """
    out = stream or sys.stderr
    human = settings.log_format == "human" or (settings.log_format == "auto" and out.isatty())
    level = getattr(logging, settings.log_level.upper())
    before: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last = _human if human else _json
    structlog.configure(
        processors=[*before, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))


def line(event: str, fields: Mapping[str, Any]) -> str:
    """Format an event as a readable line.

    Example: ``anomaly at 2014-04-16 03:35 host=a score=.7 because cpu is ...``. The fields ``at``
    and ``because`` are written as words, first and last; all others are ``name=value``.
    """
    words = [event]
    if "at" in fields:
        words.append(f"at {fields['at']}")
    words += [
        f"{name}={_plain(value)}" for name, value in fields.items() if name not in ("at", "because")
    ]
    if "because" in fields:
        words.append(f"because {fields['because']}")
    return " ".join(words)


def _human(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    name = str(event.pop("event"))
    time = event.pop("time", "")
    level = event.pop("level", "info")
    trace = _trace(event)
    prefix = "" if level == "info" else f"{level}: "
    text = f"{time[:19]}Z {prefix}{line(name, event)}"
    return f"{text}\n{trace}" if trace else text


def _json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    trace = _trace(event)
    ordered = {
        "event": str(event.pop("event")),
        "time": event.pop("time", ""),
        "level": event.pop("level", "info"),
    }
    ordered |= {name: _finite(value) for name, value in event.items()}
    if trace:
        ordered["exception"] = trace
    return json.dumps(ordered, default=str, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """Return NaN and infinity, which JSON does not have, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _trace(event: MutableMapping[str, Any]) -> str:
    info = event.pop("exc_info", None)
    if not info:
        return ""
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    return "".join(traceback.format_exception(*info)).rstrip()


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    needs_quotes = text == "" or any(letter.isspace() or letter == '"' for letter in text)
    return json.dumps(text, ensure_ascii=False) if needs_quotes else text


class _Collector(Collector):
    """Converts counters to prometheus_client's families at each scrape."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def collect(self) -> Iterable[Family]:
        for metric, rows in self.counters.numbers():
            if rows:
                yield _family(metric, rows)
        for metric, filled in self.counters.histograms():
            if filled:
                yield _histogram(metric, filled)


def _family(metric: Metric, rows: list[tuple[tuple[str, ...], float]]) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=metric.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, rows: list[tuple[tuple[str, ...], Histogram]]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
    for labels, histogram in rows:
        counts = histogram.counts.cumsum()
        edges = [*(f"{edge:g}" for edge in metric.buckets), "+Inf"]
        family.add_metric(
            labels,
            [(edge, int(count)) for edge, count in zip(edges, counts, strict=True)],
            histogram.total,
        )
    return family


def prometheus_text(counters: Counters) -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(counters))
    return generate_latest(registry)


class TelemetryServer:
    """``/metrics``, ``/health/live`` and ``/health/ready`` on its own thread; none with port 0.

    ready  : returns why the service is not ready; empty = it is ready
    raises : ConfigError when it cannot listen on telemetry.host and telemetry.port
    """

    def __init__(
        self, settings: TelemetrySettings, counters: Counters, ready: Callable[[], str]
    ) -> None:
        self._server: ThreadingHTTPServer | None = None
        if settings.port == 0:
            return
        try:
            self._server = _Server((settings.host, settings.port), _handler(counters, ready))
        except OSError as error:
            raise ConfigError(
                "telemetry.port (LAPWING_TELEMETRY__PORT): cannot listen on"
                f" {settings.host}:{settings.port}: {error.strerror or error}; choose a free port,"
                " or 0 to disable"
            ) from error
        counters.set(BUILD_INFO, 1, _version(), STATE_VERSION, platform.python_version())
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="telemetry",
            daemon=True,
        ).start()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> TelemetryServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _version() -> str:
    try:
        return version("lapwing")
    except PackageNotFoundError:
        return "unknown"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def _handler(counters: Counters, ready: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE, prometheus_text(counters))
            elif path == "/health/live":
                self._send_json(200, {"live": True})
            elif path == "/health/ready":
                reason = ready()
                if reason:
                    self._send_json(503, {"ready": False, "why": reason})
                else:
                    self._send_json(200, {"ready": True})
            else:
                self._send_json(
                    404, {"error": "the paths are /metrics, /health/live and /health/ready"}
                )

        def _send_json(self, status: int, body: Mapping[str, Any]) -> None:
            self._answer(status, "application/json", json.dumps(body).encode() + b"\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # whoever asked did not wait for the answer
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            logging.getLogger("telemetry").debug(format, *args)

    return Handler
