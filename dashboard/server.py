"""The service: the reader of the topics, the web server, and the page's files.

Invariant: it listens before the topics can be read, so that the page can say what it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from dashboard.access import Access, problem
from dashboard.feedback_writer import FeedbackWriter
from dashboard.history.queries import History
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.intake import Intake
from dashboard.model_reports import ModelReports
from dashboard.routes.api import Pipeline, add_routes
from dashboard.routes.api_feedback import Write, add_feedback
from dashboard.routes.api_incidents import add_incidents, add_models
from dashboard.routes.shared_answers import SharedAnswers
from shared.errors import ConfigError
from shared.operations.counters import Counters
from shared.operations.telemetry import TelemetryServer
from shared.settings import Settings

log = structlog.get_logger()

STATIC = Path(__file__).parent / "static"
PAGES = (
    "/",
    "/entity/{name:path}",
    "/anomaly/{event_id}",
    "/incidents",
    "/incident/{incident_id}",
    "/pipeline",
    "/models",
    "/model/{sha256}",
)
"""Routes of the page; each of them is ``index.html``, which shows the view."""

SWITCH_S = 0.0005
"""How long a busy thread keeps the interpreter from others; Python's own 5 ms is ten times as long.

SQLite gives the interpreter up at every row, so an answer waits for it a hundred times while the
readers decode.
"""

LOOK_S = 0.1
GRACE_S = 2


def history_file(settings: Settings) -> Path:
    """Return the path of the history."""
    return (settings.state_dir / "dashboard" / "history.sqlite3").absolute()


def make_app(
    settings: Settings,
    history: History,
    hub: Hub,
    pipeline: Pipeline,
    ready: Callable[[], str],
    write_feedback: Write | None = None,
) -> FastAPI:
    """Return the web application.

    ready          : why there is no current data; empty = there is
    write_feedback : None = into its topic
    """
    wanted = settings.dashboard

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        hub.attach(asyncio.get_running_loop())
        yield
        hub.close()

    app = FastAPI(
        title="Lapwing",
        description="Anomalies of metric streams: what is anomalous, since when, and why.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    access = Access(app, wanted.token, wanted.host)
    app.add_middleware(Access, token=wanted.token, host=wanted.host)

    @app.get("/health/live", include_in_schema=False)
    def live() -> Response:
        return Response(status_code=204)

    @app.get("/health/ready", include_in_schema=False)
    def readiness() -> Response:
        why = ready()
        return problem(503, why) if why else Response(status_code=204)

    group, topic = settings.predict.group, settings.topics.input
    shared = SharedAnswers(history.version)
    reports = ModelReports(settings.models_dir)
    add_routes(app, history, hub, pipeline, access, shared, (reports, group, topic))
    add_incidents(app, history, shared)
    add_models(app, history, reports, group, topic)
    write = write_feedback or FeedbackWriter(settings).write
    add_feedback(app, history, write, read_only=wanted.read_only)
    for route in PAGES:
        app.add_api_route(route, _page, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def run(settings: Settings, stopping: Callable[[], bool]) -> None:
    """Serve until a stop is requested.

    raises : ConfigError when the address cannot be used or the history cannot be written
    """
    sys.setswitchinterval(SWITCH_S)
    wanted = settings.dashboard
    listener = _listen(wanted.host, wanted.port)
    with contextlib.closing(listener):
        path = history_file(settings)
        store = Store(path, Retention(wanted.keep_days, wanted.max_mb * 1_000_000))
        hub = Hub(wanted.max_clients)
        intake = Intake(settings, store, hub)
        app = make_app(settings, History(path, store), hub, intake.status, intake.readiness)
        with TelemetryServer(settings.telemetry, Counters(), intake.readiness):
            intake.start()
            port = listener.getsockname()[1]
            log.info("dashboard", url=f"http://{_shown(wanted.host)}:{port}/", history=str(path))
            try:
                asyncio.run(
                    _serve(app, listener, hub, lambda: stopping() or intake.stopping.is_set())
                )
            finally:
                intake.close()
        intake.check()


async def _page() -> Response:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _serve(
    app: FastAPI, listener: socket.socket, hub: Hub, stopping: Callable[[], bool]
) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=None,
    )
    server = uvicorn.Server(config)
    # The command has its own signal handlers, which `stopping` reads.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not stopping() and not serving.done():
        await asyncio.sleep(LOOK_S)
    hub.close()
    server.should_exit = True
    await serving


def _listen(host: str, port: int) -> socket.socket:
    try:
        (family, *_, address) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # from here on a browser waits instead of being refused
    except OSError as error:
        raise ConfigError(
            f"dashboard: cannot listen on {host}:{port}: {error.strerror or error}; see"
            " dashboard.host and dashboard.port"
        ) from error
    return listener


def _shown(host: str) -> str:
    """Return an address under which the page can be opened on this machine."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
