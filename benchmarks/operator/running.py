"""Runs one situation: generates the scene, lets a detector see it, judges its alerts.

Invariant: a result depends only on situation, seed, variant and build, not on other situations.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.builds import Build, call, read_alarms
from benchmarks.operator import baseline
from benchmarks.operator.judging import Alert, Check, Output, Verdict, judge, last_line
from benchmarks.operator.scene import Scene
from benchmarks.operator.situations import SITUATIONS, Situation
from benchmarks.operator.variants import ORIGINAL, Variant, undecidable

HERE = Path(__file__).resolve().parent
SEED_STEP = 1000
"""Added to a situation's own seed for each step of --seed."""


@dataclass(frozen=True)
class Request:
    """A task that can be sent to another process.

    source : Python file with another list SITUATIONS; None = this package's
    build  : None = the baseline
    keep   : folder for data and output; None = they are removed
    """

    name: str
    seed: int = 0
    variant: Variant = ORIGINAL
    source: Path | None = None
    build: Build | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class Result:
    """A verdict, or why there is none."""

    name: str
    verdict: Verdict | None
    why_not: str
    seconds: float


def load_situations(source: Path | None) -> list[Situation]:
    """Return the situations of this package, or of a Python file with a list SITUATIONS."""
    if source is None:
        return SITUATIONS
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise ValueError(f"--situations {source}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    spec.loader.exec_module(module)
    situations: list[Situation] = module.SITUATIONS
    return situations


def build_scene(situation: Situation, seed: int, variant: Variant = ORIGINAL) -> Scene:
    """Generate the rows and expectations of a situation."""
    if situation.make is None:
        raise ValueError(f"{situation.name} has no rows")
    parameters = variant.parameters(situation)
    return situation.make(situation.seed + SEED_STEP * seed, **parameters)


def run(request: Request) -> Result:
    """Run one situation and judge it."""
    began_s = time.monotonic()
    situations = load_situations(request.source)
    situation = next(one for one in situations if one.name == request.name)
    verdict, why_not = _verdict(situation, request)
    return Result(situation.name, verdict, why_not, time.monotonic() - began_s)


def _verdict(situation: Situation, request: Request) -> tuple[Verdict | None, str]:
    why_not = request.variant.inapplicable(situation)
    if why_not:
        return None, why_not
    if situation.script is not None:
        if request.build is None:
            return None, "the baseline reads no records"
        return _run_script(situation, request.build), ""
    scene = build_scene(situation, request.seed, request.variant)
    why_not = "" if request.variant == ORIGINAL else undecidable(scene)
    if why_not:
        return None, why_not
    if request.build is None:
        if situation.by_arrival or scene.files:
            return None, "the baseline knows no formats and no order of arrival"
        return judge(scene, situation.criteria, baseline.detect(scene)), ""
    with tempfile.TemporaryDirectory() as temporary:
        kept = request.keep
        folder = Path(temporary) if kept is None else kept.absolute() / situation.name
        scene.write(folder / "data")
        output = run_product(folder, request.build, situation)
    name_after_hosts(output.alerts, [host.name for host in scene.hosts])
    return judge(scene, situation.criteria, output), ""


def run_product(folder: Path, build: Build, situation: Situation) -> Output:
    """Run the backtest on the folder's ``data``; read alarms.csv and the summary."""
    command = [*build.command, "backtest", "--data", "data", "--out", "out", "--json"]
    command += ["--order", "arrival"] if situation.by_arrival else []
    done = call(build, command, folder, situation.environment)
    message = f"{done.out[:2000] if done.code else ''}\n{done.err}"
    output = Output(exit_code=done.code, message=message)
    if done.code:
        return output
    figures = json.loads(done.out)["first"]
    output.facts = {
        "records": figures["records"],
        "entities": figures["entities"],
        "rejected": sum(figures["rejected"].values()),
        "warming": figures.get("entities_warming"),
        "late": figures["late"],
        "first": figures["first_event"],
        "last": figures["last_event"],
    }
    for alarm in read_alarms(folder / "out" / "alarms.csv"):
        alert = Alert(alarm.time_s, alarm.entity, alarm.kind, alarm.metric)
        alert.expected, alert.reason = alarm.expected, alarm.reason
        output.alerts.append(alert)
    return output


def name_after_hosts(alerts: Sequence[Alert], hosts: Sequence[str]) -> None:
    """Name an entity as its host, where it is called after its file and the key: sensors/101."""
    known = set(hosts)
    for alert in alerts:
        name = alert.entity.rsplit("/", 1)[-1]
        if alert.entity not in known and name in known:
            alert.entity = name


def _run_script(situation: Situation, build: Build) -> Verdict:
    """Run a script with the build's interpreter; it prints its checks as JSON."""
    script = HERE / str(situation.script)
    with tempfile.TemporaryDirectory() as folder:
        done = call(build, [build.python, "-P", str(script)], Path(folder))
    if done.code:
        measured = f"{done.code}: {last_line(done.err)}"
        return Verdict([Check(f"{situation.script} runs", measured, False)])
    return Verdict([Check(**check) for check in json.loads(done.out)])
