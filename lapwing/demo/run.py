"""One run of the demo: backfill, training, live scoring, and the comparison of the counts.

Invariant: an independent reader of the topics counts what the summary reports, and its counts are
           compared with those of the replay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lapwing.demo.children import Child, ChildError, Children
from lapwing.demo.ledger import DEAD, SCORED, Ledger
from lapwing.demo.page import FILE, DemoPage, command_name, hints
from lapwing.demo.plan import DemoOptions, DemoPlan, arguments
from lapwing.demo.reader import GROUP, ResultReader
from lapwing.demo.screen import Screen
from lapwing.demo.view import Frame, Phase, Summary
from lapwing.topics import ensure
from shared import artifacts
from shared.kafka import Admin
from shared.settings import Settings

STALL_S = 120.0
"""Time without a child's output or a new record after which the demo fails.

A first run compiles kernels in this time.
"""

WATCHABLE_SPEED = 3000.0
FRAME_S = 0.1
RATE_S = 0.5
RECENT = 2_000
"""Newest records per partition in the view's latency; the summary uses the whole live part."""


class StopRequested(Exception):
    """The user requested the end of the demo."""


@dataclass(slots=True)
class _Progress:
    """The results of the phases so far.

    sent_before   : records acknowledged by replays that have ended
    live_from     : end offsets at the beginning of the live part
    disagreements : counts that do not agree, as sentences
    """

    phases: dict[str, Phase] = field(default_factory=dict)
    sent_before: int = 0
    live_from: dict[int, int] = field(default_factory=dict)
    model: str = ""
    rates: list[float] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)


class Demo:
    """One run, from the first child to the last."""

    def __init__(
        self,
        options: DemoOptions,
        plan: DemoPlan,
        settings: Settings,
        children: Children,
        screen: Screen,
        should_stop: Callable[[], bool],
        started_s: float,
    ) -> None:
        self.options = options
        self.plan = plan
        self.settings = settings
        self.children = children
        self.screen = screen
        self.should_stop = should_stop
        self.started_s = started_s
        self.ledger = Ledger(plan.partitions)
        self.admin = Admin(settings)
        self.predictors: list[Child] = []
        self.incidents: Child | None = None
        self.reader: ResultReader | None = None
        self.page: DemoPage | None = None
        self.source = ""
        self.progress = _Progress({name: Phase(name) for name in ("backfill", "train", "live")})
        self._rated = (time.monotonic(), 0)
        self._shown_s = 0.0
        self._last_activity = (time.monotonic(), 0)

    def describe(self, name: str, hosts: int, notes: tuple[str, ...]) -> None:
        """Print what is replayed, and notes on its preparation."""
        origin = "generated fleet" if name == "fleet" else f"series of {Path(name).name}"
        count = self.options.predictors
        self.source = (
            f"{origin}, {hosts} hosts, {count} predictor{'' if count == 1 else 's'},"
            f" {self.plan.partitions} partitions"
        )
        self.screen.begin(self.source, notes)

    def run(self) -> Summary:
        """Run all phases; return the summary."""
        ids = ensure(self.settings, schemas_only=True).checked().schemas
        for number in range(self.options.predictors):
            self.predictors.append(
                self.children.start(f"predictor-{number}", "consumer_prediction")
            )
        self.incidents = self.children.start("incidents", "lapwing.incidents")
        if self.options.page:
            self.page = DemoPage(self.children, self.settings)
        self.reader = ResultReader(
            self.settings,
            self.ledger,
            [] if self.settings.output.is_json else [ids[f"{self.settings.topics.scores}-value"]],
            time.monotonic,
        )
        try:
            try:
                self._backfill()
                self._train()
                self._live()
            except StopRequested:
                self._stop_replay()
            return self._finish()
        finally:
            self.reader.close()
            self.admin.close()

    # -- phases ------------------------------------------------------------------------------------

    def _backfill(self) -> None:
        self._phase("backfill", "running", f"{self.plan.backfill:,} events at full speed", 0.0)
        self._replay(
            "backfill", ["--to", repr(self.options.backfill), "--speed", "max"], self.plan.backfill
        )
        self._phase("backfill", "done", f"{self.progress.sent_before:,} events")

    def _train(self) -> None:
        began_s = time.monotonic()
        self._phase("train", "running", "reads the backfill, fits, evaluates")
        trainer = self.children.start("training", "consumer_training", ["--once"])
        self._until(
            lambda: artifacts.current(self.settings.models_dir) is not None or not trainer.running
        )
        sha256 = artifacts.current(self.settings.models_dir)
        if sha256 is None:
            raise trainer.failure()
        read = sum(
            int(str(event["records"]))
            for event in trainer.new_events()
            if event.get("event") == "input read"
        )
        if read != self.progress.sent_before:
            self.progress.disagreements.append(
                f"the training read {read:,} of {self.progress.sent_before:,} records"
            )
        self._look_for_model()
        waiting = set(self.predictors)

        def loaded() -> bool:
            for child in list(waiting):
                if any(
                    e.get("event") == "model loaded" and e.get("model") == sha256[:16]
                    for e in child.new_events()
                ):
                    waiting.discard(child)
            return not waiting

        self._until(loaded)
        self._phase(
            "train", "done", f"{time.monotonic() - began_s:.1f} s, all predictors have the model"
        )

    def _look_for_model(self) -> None:
        """Take over the name of the published model, which the user may have trained again."""
        sha256 = artifacts.current(self.settings.models_dir)
        if sha256 is not None and not self.progress.model.startswith(sha256[:16]):
            manifest = artifacts.manifest(self.settings.models_dir, sha256)
            self.progress.model = (
                f"{sha256[:16]}, {manifest['detector']}, trained up to {manifest['version']}"
            )

    def _live(self) -> None:
        total = self.plan.events - self.plan.backfill
        requested = self.options.speed or (math.inf if self.options.once else WATCHABLE_SPEED)
        speed = "max" if math.isinf(requested) else repr(requested)
        pace = (
            "at full speed" if speed == "max" else f"{requested:,.0f} times as fast as it happened"
        )
        self.progress.live_from = self.admin.end_offsets(self.settings.topics.input)
        self._phase("live", "running", f"{total:,} events {pace}", 0.0)
        for hint in self._hints():
            self.screen.print_step(f"try: {hint}")
        if not self.options.once:
            self.screen.print_step("Ctrl-C ends the demo")
        loop = [] if self.options.once else ["--loop"]
        self._replay(
            "live", ["--from", repr(self.options.backfill), "--speed", speed, *loop], total
        )
        self._phase(
            "live", "done", f"{self.ledger.sent - sum(self.progress.live_from.values()):,} events"
        )

    def _hints(self) -> tuple[str, ...]:
        """Return what to try in another terminal while the live part runs."""
        if self.options.once or self.progress.phases["live"].state != "running":
            return ()
        pids = [child.process.pid for child in self.predictors]
        return hints(self.children.folder / FILE, command_name(), pids)

    def _replay(self, phase: str, given: list[str], total: int) -> None:
        groups = [self.settings.predict.group, GROUP]
        pace = [part for group in groups for part in ("--pace-group", group)]
        pace += ["--pace-records", str(self.plan.pace_records)]
        child = self.children.start(
            f"replay-{phase}",
            "producer",
            [*arguments(self.options.source), *given, *pace, "--json"],
        )
        before = self.ledger.sent
        text, rounds = self.progress.phases[phase].text, 0

        def ended() -> bool:
            nonlocal rounds
            done = (self.ledger.sent - before) / max(1, total)
            if "--loop" in given and int(done) > rounds:
                rounds = int(done)
                self.screen.print_step(f"{phase}: the series begin again, later by whole weeks")
            share = done - rounds if "--loop" in given else min(1.0, done)
            shown = f"{text}, round {rounds + 1}" if rounds else text
            self.progress.phases[phase] = Phase(phase, "running", shown, share)
            return not child.running

        self._until(ended)
        self._count(child)
        self._until(lambda: self.ledger.answered >= self.progress.sent_before)

    def _count(self, child: Child) -> None:
        """Add the replay's acknowledged records to the sent ones."""
        reports = [
            event for event in child.new_events() if "acknowledged" in event and "produced" in event
        ]
        if not reports:
            raise child.failure()
        self.progress.sent_before += int(str(reports[-1]["acknowledged"]))

    def _stop_replay(self) -> None:
        """Stop replay and training cleanly.

        A replay flushes and reports what was acknowledged; that is still scored.
        """
        for child in self.children.all:
            if child in self.predictors or child is self.incidents or not child.running:
                continue
            self.children.stop(child)
            if child.has_logged("replay begins"):
                self._count(child)
        self.should_stop = lambda: False
        self._until(lambda: self.ledger.answered >= self.progress.sent_before)

    def _finish(self) -> Summary:
        ends = self.admin.end_offsets(self.settings.topics.input)
        for child in self.children.all:
            if child.name == "training":
                self._until(lambda: not child.running)  # noqa: B023 - it draws its report while the live part runs
        self._until(self._incidents_are_current)
        for child in self.predictors:
            if self.children.stop(child) != 0 and child.has_logged("predicting"):
                raise child.failure()
        quiet_s = time.monotonic() + 0.5
        while time.monotonic() < quiet_s:
            self._poll_and_draw()
        return self._summary(ends)

    def _incidents_are_current(self) -> bool:
        """Return whether every anomaly has been folded."""
        topic = self.settings.topics.anomalies
        end = self.admin.end_offsets(topic)[0]
        position = self.admin.committed(self.settings.incidents.group, topic).get(0)
        return end == 0 or (position is not None and position.offset >= end)

    def _count_incidents(self) -> tuple[int, int]:
        """Stop the incidents service; return how many it opened, and how many are open."""
        child = self.incidents
        assert child is not None  # noqa: S101 - run() has started it
        if self.children.stop(child) != 0:
            raise child.failure()
        events = [event.get("event") for event in child.new_events()]
        opened = events.count("incident opened")
        return opened, opened - events.count("incident closed")

    # -- watching ----------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool]) -> None:
        """Read results and draw until done.

        raises : StopRequested, HistoryGone, ChildError; the latter also after STALL_S without
                 progress
        """
        self._last_activity = (time.monotonic(), self._activity())
        while not done():
            if self.should_stop():
                raise StopRequested
            self._poll_and_draw()
            self._restart_killed_predictors()
            self.children.check()
            for child in self.predictors:
                if not child.running:
                    raise child.failure()
            now_s, activity = time.monotonic(), self._activity()
            if activity != self._last_activity[1]:
                self._last_activity = (now_s, activity)
            elif now_s - self._last_activity[0] > STALL_S:
                raise ChildError(f"no progress for {STALL_S:.0f} s\n" + self._last_log_lines())

    def _restart_killed_predictors(self) -> None:
        """Start a predictor again that a signal has ended, as a supervisor does."""
        for number, child in enumerate(self.predictors):
            code = child.process.poll()
            if code is None or code >= 0 or child.stop_requested:
                continue
            child.stop_requested = True  # it is no failure of the demo
            self.screen.print_step(f"{child.name} was ended by signal {-code}, it is restarted")
            self.predictors[number] = self.children.start(child.name, "consumer_prediction")

    def _activity(self) -> int:
        output_bytes = sum(
            child.log.stat().st_size
            for child in self.children.all
            if not child.name.startswith("replay")
        )
        return self.ledger.sent + self.ledger.answered + output_bytes

    def _last_log_lines(self) -> str:
        parts = []
        for child in self.children.all:
            parts += [f"{child.name}:", *(f"  {text}" for text in child.last_lines(5))]
        return "\n".join(parts)

    def _poll_and_draw(self) -> None:
        assert self.reader is not None  # noqa: S101 - run() has made it
        self.reader.poll(0.02)
        now_s = time.monotonic()
        if now_s - self._rated[0] >= RATE_S:
            answered = self.ledger.answered
            self.progress.rates.append((answered - self._rated[1]) / (now_s - self._rated[0]))
            del self.progress.rates[:-120]
            self._rated = (now_s, answered)
            self._look_for_model()
            if self.page and (url := self.page.look()):
                self.screen.print_step(f"page: {url}")
        if now_s - self._shown_s >= FRAME_S:
            self._shown_s = now_s
            self.screen.show(self.frame())

    def _phase(self, name: str, state: str, text: str, share: float = math.nan) -> None:
        self.progress.phases[name] = Phase(name, state, text, share)
        self.screen.print_step(f"{name}: {text}")

    def frame(self) -> Frame:
        """Return the state that the view shows now."""
        totals = self.reader.totals if self.reader else None
        recent = {
            partition: max(start, self.ledger.partitions[partition].end - RECENT)
            for partition, start in self.progress.live_from.items()
        }
        p50, p99 = self._latency_ms(recent)
        return Frame(
            source=self.source,
            predictors=self.options.predictors,
            elapsed_s=time.monotonic() - self.started_s,
            phases=tuple(self.progress.phases.values()),
            sent=self.ledger.sent,
            scored=self.ledger.scored,
            dead=self.ledger.dead,
            anomalies=totals.anomalies if totals else 0,
            rates=tuple(self.progress.rates),
            lag=tuple(
                max(0, ledger.end - int((ledger.kind[: ledger.end] != 0).sum()))
                for ledger in self.ledger.partitions
            ),
            event_ms=totals.event_ms if totals else None,
            p50_ms=p50,
            p99_ms=p99,
            model=self.progress.model,
            newest=tuple(reversed(self.reader.newest.values())) if self.reader else (),
            page=self.page.url if self.page else "",
            hints=self._hints(),
        )

    def _latency_ms(self, since: dict[int, int]) -> tuple[float, float]:
        latency_ms = self.ledger.latency_ms(since) if since else np.zeros(0)
        return (
            tuple(np.quantile(latency_ms, [0.5, 0.99]).tolist())
            if len(latency_ms)
            else (math.nan, math.nan)
        )

    def _summary(self, ends: dict[int, int]) -> Summary:
        assert self.reader is not None  # noqa: S101
        totals = self.reader.totals
        produced = sum(ends.values())
        disagreements = self.progress.disagreements + self.ledger.disagreements(ends)
        if produced != self.progress.sent_before:
            disagreements.append(
                f"the replay reports {self.progress.sent_before:,} acknowledged records, the topic"
                f" contains {produced:,}"
            )
        p50, p99 = self._latency_ms(self.progress.live_from)
        live, live_s = (
            self.ledger.span_s(self.progress.live_from) if self.progress.live_from else (0, 0.0)
        )
        opened, still_open = self._count_incidents()
        counts = {
            p: (ends.get(p, 0), ledger.count(SCORED), ledger.count(DEAD))
            for p, ledger in enumerate(self.ledger.partitions)
        }
        return Summary(
            produced=produced,
            scored=self.ledger.scored,
            dead_letters=self.ledger.dead,
            anomalies=totals.anomalies,
            data_quality=totals.data_quality,
            first_anomaly_s=None
            if totals.first_at_s is None
            else totals.first_at_s - self.started_s,
            events_per_s=live / live_s if live_s > 0 else 0.0,
            p50_ms=p50,
            p99_ms=p99,
            live=live,
            repeats=self.ledger.repeats,
            unscored=totals.unscored,
            model=self.progress.model,
            partitions=counts,
            disagreements=tuple(disagreements),
            incidents=opened,
            open_incidents=still_open,
        )
