"""The words of the documents: names, messages and numbers are those of the code."""

from __future__ import annotations

import inspect
import re
import tomllib

import pytest
import yaml

import shared.errors
from shared.errors import GuardError
from shared.events import Kind, Reason
from shared.kafka import topic_specs
from shared.operations.counters import CATALOGUE
from shared.settings import Settings
from shared.settings.names import RENAMED
from tests.support.documents import ROOT, SETTINGS, SOURCES, STRINGS, TEXTS, spans

BY_DOCUMENT = pytest.mark.parametrize("document", TEXTS)


def test_metrics_that_are_named_exist():
    known = {metric.name for metric in CATALOGUE}
    for name, text in TEXTS.items():
        for metric in re.findall(r"\blapwing_[a-z_]*[a-z]\b", text):
            gone = name == "docs/upgrading.md" and metric == "lapwing_gate_results_total"
            assert metric in known or gone or f"{metric}*" in text or f"{metric}_*" in text, (
                f"{name}: {metric}"
            )


def test_the_table_of_metrics_is_complete():
    rows = re.findall(r"^\| `(lapwing_\w+)` \| (.*?) \|", TEXTS["docs/monitoring.md"], re.MULTILINE)
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == {
        metric.name: metric.labels for metric in CATALOGUE
    }
    assert len(rows) == len(CATALOGUE)


def test_reasons_for_not_being_ready_are_those_of_the_code():
    table = (
        TEXTS["docs/monitoring.md"]
        .partition("## Why a service is not ready")[2]
        .partition("\n## ")[0]
    )
    quoted = [
        span.split(" ...")[0] for span in spans(table) if len(span.split()) > 2 and "{" not in span
    ]
    assert len(quoted) >= 8
    for text in quoted:
        pattern = re.sub(
            r"\d+(?: s)?|isolation_forest|the broker or the registry"
            r"|the (?:broker|registry)(?: at)?$",
            "…",
            text,
        )
        words = [part.strip(" …:") for part in pattern.split("…")]
        assert any(
            all(word in message for word in words)
            for texts in STRINGS.values()
            for message in texts
        ), f"no message holds {words}"


def test_checks_of_doctor_are_those_of_the_code():
    table = TEXTS["docs/monitoring.md"].partition("`lapwing doctor` checks")[2]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    checks = set()
    for name, source in SOURCES.items():
        if name.startswith("lapwing/doctor/"):
            checks |= set(re.findall(r'Finding\(\s*"(\w+)"', source)) | set(
                re.findall(r'check_folder\(\s*"(\w+)"', source)
            )
    assert named == checks


def test_topics_that_are_named_exist():
    known = {spec.name for spec in topic_specs(Settings())} | {"metrics.cloudwatch"}
    for name, text in TEXTS.items():
        for topic in re.findall(r"\b(?:metrics|anomalies|models)\.cloudwatch[a-z.]*[a-z]", text):
            assert topic in known, f"{name}: {topic}"


def test_reasons_of_dead_letters_are_all_explained():
    table = TEXTS["docs/dead-letters.md"].partition("| reason |")[2].partition("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == {
        r.code for r in Reason if r is not Reason.ACCEPTED
    }


def test_guards_are_all_explained():
    guards = {
        name
        for name, one in inspect.getmembers(shared.errors, inspect.isclass)
        if issubclass(one, GuardError) and one is not GuardError
    }
    assert set(re.findall(r"^\| `(\w+)` \|", TEXTS["docs/guards.md"], re.MULTILINE)) == guards
    assert len(guards) == len(GuardError.__subclasses__())


def test_headers_that_are_named_are_written():
    written = "\n".join(text for texts in STRINGS.values() for text in texts)
    for name, text in TEXTS.items():
        for header in re.findall(r"`((?:ce_|lapwing\.|__connect)[a-z_.]+)`", text):
            assert header in written, f"{name}: {header}"


KNOWN_ELSEWHERE = {
    "docs/dead-letters.md": {
        "header_schema_id_serializer", "prefix_schema_id_serializer", "__value_schema_id",
        "__key_schema_id",
    },
    "docs/faults.md": {"send_offsets_to_transaction"},
    "docs/files.md": {"load_ts"},
    "docs/input.md": {
        "__source_ts_ms", "__ts_ms", "__value_schema_id", "created_at", "device_id", "event_ts",
        "event_timestamp", "ingested_at", "measured_at", "recorded_at", "response_time", "seen_at",
        "start_time", "ts_ms", "window_start",
    },
    "docs/notify.md": {"resolve_timeout"},
    "docs/performance.md": {"at_least_once", "echo_sized", "ensemble_model"},  # ids of rows
    "docs/route.md": {
        "cpu_idle", "cpu_usage_idle", "cpu_usage_user", "df_df_complex_free", "disk_used",
        "go_goroutines", "http_requests_total", "json_timestamp_format", "json_timestamp_units",
        "latency_count", "latency_p99", "load_five", "load_one", "load_shortterm", "node_load1",
        "system_cpu_utilization", "time_unix_nano", "uptime_format", "use_batch_format",
        "write_kafka", "otlp_proto", "metric_name", "plugin_instance", "type_instance",
        "account_id", "metric_stream_name", "host_metrics",
    },
    "CONTRIBUTING.md": {"confluent_kafka", "_total", "time_ms", "timeout_s"},
    "data/README.md": {
        "ec2_cpu_utilization_c6585a", "ec2_disk_write_bytes_1ef3de", "ec2_disk_write_bytes_c0d644",
        "ec2_network_in_257a54", "ec2_network_in_5abac7", "elb_request_count_8c0756",
        "grok_asg_anomaly", "request_count", "group_metric",
    },
}  # fmt: skip
"""Names of other people's code, and of files that are fetched."""


def words_of_ours() -> set[str]:
    """Return every name of the product that a document may use.

    These are fields of schemas, values of enumerations, settings, options, metrics, labels,
    services, checks and names in the code.
    """
    found = (
        {part for name in SETTINGS for part in name.split(".")}
        | {kind.value for kind in Kind}
        | {r.code for r in Reason}
    )
    for path in (ROOT / "schemas").glob("*.avsc"):
        found |= set(re.findall(r'"name": *"(\w+)"', path.read_text("utf-8")))
    found |= set(yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"])
    found |= {metric.name for metric in CATALOGUE} | {
        label for metric in CATALOGUE for label in metric.labels
    }
    for source in SOURCES.values():
        found |= set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", source))
    return found


@BY_DOCUMENT
def test_names_with_underscores_are_known(document):
    """An unknown name is probably a field, setting or reason that has been renamed."""
    known = (
        words_of_ours()
        | KNOWN_ELSEWHERE.get(document, set())
        | {name.rpartition(".")[2] for name in RENAMED}
    )
    known |= {"lapwing_gate_results_total"} if document == "docs/upgrading.md" else set()
    named = {
        span for span in spans(TEXTS[document]) if re.fullmatch(r"_*[a-z]+(?:_[a-z0-9]+)+", span)
    }
    assert named - known == set()


# -- quotes ----------------------------------------------------------------------------------------


@BY_DOCUMENT
def test_messages_that_are_quoted_are_in_the_code(document):
    """Sentences in back quotes are messages or lines of the log."""
    quoted = {
        "model refused, keeping the last good model", "stopped by a guard", "writer schema",
        "must be 'read_committed', results would be wrong otherwise", "there is no topic ...",
        "retention has removed ...", "... has 4 partitions, topics.partitions says 6",
        "no partition is assigned",
    }  # fmt: skip
    for text in quoted & set(spans(TEXTS[document])):
        parts = [part for part in re.split(r"\.\.\.|\d+|'read_committed'", text) if part.strip()]
        assert any(
            all(part.strip() in message for part in parts)
            for texts in STRINGS.values()
            for message in texts
        ), text


def test_quoted_messages_are_really_quoted():
    everything = {span for text in TEXTS.values() for span in spans(text)}
    assert {"stopped by a guard", "writer schema", "no partition is assigned"} <= everything


def numbers():
    """(document, pattern with the number, the value in the code)."""
    from consumer_prediction import models
    from consumer_prediction.health import guards, rejections
    from consumer_training import report
    from lapwing.backtest import report as backtest_report
    from lapwing.dlq import replay
    from lapwing.doctor import flow
    from lapwing.doctor.registry import CLOCK_WARN_S
    from lapwing.embedded import broker
    from shared.ensemble.kernels import layout
    from shared.kafka import ends
    from shared.models import artifact_format, model
    from shared.settings.topic_specs import input_limit_bytes
    from tests.faults import content

    s = Settings()
    return [
        ("README.md", r"trains on the first (\d+) %", 60),
        ("README.md", r"beyond (\d+) MiB per partition", broker.RETENTION_BYTES / 2**20),
        ("README.md", r"the (\d+) most conspicuous", report.MAX_PICTURES),
        ("README.md", r"The input has (\d+) partitions", s.topics.partitions),
        ("README.md", r"until its transaction times out\s+\((\d+) s",
            s.predict.transaction_timeout_ms / 1000),
        ("README.md", r"scaling down waits for one session \((\d+) s\)",
            s.predict.session_timeout_ms / 1000),
        ("README.md", r"learns from the first (\d+) % of each entity's time", s.train.split * 100),
        ("README.md", r"retry for (\d+) minutes", s.outage_deadline_s / 60),
        ("docs/backtest.md", r"Charts for the first (\d+) metrics", backtest_report.MAX_PANELS),
        ("docs/dead-letters.md", r"\((\d+) MiB, or what", input_limit_bytes(s) // 2**20),
        ("docs/dead-letters.md", r"at most ([\d,]+) records", replay.MAX_SEARCHED_RECORDS),
        ("docs/detection.md", r"(\d+) bins of five minutes", layout.BINS),
        ("docs/detection.md", r"(\d+) days of each", layout.DAYS),
        ("docs/detection.md", r"more than ([\d.]+) times what it has been",
            layout.EnsembleParams().worse),
        ("docs/detection.md", r"faster than every (\d+) s", 45),
        ("docs/detection.md", r"([\d.]+) KiB for each metric",
            round(layout.METRIC_DTYPE.itemsize / 1024, 1)),
        ("docs/detection.md", r"([\d.]+) KiB for an entity",
            round(layout.ENTITY_DTYPE.itemsize / 1024, 1)),
        ("docs/faults.md", r"decides: (\w+) hosts", content.HOSTS),
        ("docs/faults.md", r"bad records of (\w+) kinds", len(content.POISON)),
        ("docs/guards.md", r"every (\d+) s, before", guards.CHECK_EVERY_S),
        ("docs/models.md", r"regular file of at most (\d+) MiB",
            artifact_format.MAX_MANIFEST_BYTES / 2**20),
        ("docs/models.md", r"At most (\d+) canary rows", artifact_format.MAX_CANARY_ROWS),
        ("docs/models.md", r"depth\s+at most (\d+)", model.MAX_DEPTH),
        ("docs/models.md", r"`models.max_bytes` \((\d+) MiB\)", s.models.max_bytes / 2**20),
        ("docs/models.md", r"after (\w+) times as long", models.RETRY_FACTOR),
        ("docs/models.md", r"at most after (\d+) s", models.MAX_RETRY_S),
        ("docs/monitoring.md", r"more than (\d+) s off", CLOCK_WARN_S),
        ("docs/monitoring.md", r"of the last ([\d,]+) records", flow.RECENT_RECORDS),
        ("docs/monitoring.md", r"\((\d+) of each partition", rejections.RECENT),
        ("docs/monitoring.md", r"of each partition, at least (\d+)\)", rejections.MIN_RECORDS),
        ("docs/monitoring.md", r"has not moved for (\d+) s", flow.WATCH_S),
        ("docs/monitoring.md", r"asked every (\w+) seconds", ends.QUERY_EVERY_S),
        ("docs/monitoring.md", r"counted every (\w+) seconds", 10),
        ("docs/promises.md", r"`outage_deadline_s` \((\d+) minutes\)", s.outage_deadline_s / 60),
        ("docs/promises.md", r"default timeouts \(session (\d+) s",
            s.predict.session_timeout_ms / 1000),
        ("docs/promises.md", r"session \d+ s, transaction (\d+) s",
            s.predict.transaction_timeout_ms / 1000),
        ("docs/promises.md", r"the default of (\d+) ms", s.predict.commit_interval_ms),
        ("CONTRIBUTING.md", r"\((\d+) is refused\)", 500),
    ]  # fmt: skip


QUOTED = numbers()
WORDS = {"two": 2, "ten": 10, "twelve": 12, "seventeen": 17, "twenty": 20}


@pytest.mark.parametrize(
    ("document", "pattern", "value"), QUOTED, ids=[f"{d}: {p}" for d, p, _ in QUOTED]
)
def test_a_number_that_is_quoted_is_the_codes(document, pattern, value):
    found = re.findall(pattern, re.sub(r"\s+", " ", TEXTS[document]))
    assert found, f"{document} no longer says {pattern!r}: take the row out, or mend it"
    for text in found:
        assert (WORDS[text] if text in WORDS else float(text.replace(",", ""))) == value


def test_exit_codes_are_those_of_the_errors():
    codes = {"1": shared.errors.LapwingError.exit_code, "2": shared.errors.ConfigError.exit_code}
    assert codes == {"1": 1, "2": 2}
    assert shared.errors.DataError.exit_code == 2
    text = "Exit codes: 0 success, 1 failure, 2 an invalid setting, option or input file."
    assert text in TEXTS["README.md"]


def test_signs_are_those_of_the_demo():
    from lapwing.demo.view import MARKS

    (line,) = re.findall(r"symbol shows the severity: (.*?)\.", TEXTS["README.md"])
    assert line == ", ".join(f"{sign} {severity.value}" for severity, (sign, _) in MARKS.items())


def test_pythons_are_those_of_the_project():
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    supported = {
        text.rpartition(" ")[2]
        for text in about["classifiers"]
        if re.search(r"Python :: 3\.\d+$", text)
    }
    (message,) = set(
        re.findall(
            r"Python (3\.\d+, 3\.\d+ or 3\.\d+) and make",
            TEXTS["README.md"] + TEXTS["CONTRIBUTING.md"],
        )
    )
    assert set(re.split(r", | or ", message)) == supported


def test_what_reasons_say_is_explained():
    glossary = " ".join(
        TEXTS["docs/detection.md"]
        .partition("## What a reason says")[2]
        .partition("\n## ")[0]
        .split()
    )
    sources = STRINGS["shared/scoring/reasons.py"]
    fixed = (
        "usually about",
        "within 15 minutes of this time of day in the",
        "by what was learned at",
        "within two hours of",
        "for the second time in a row",
        "on average over the last",
        "the middle of the six values before",
        "usually reaches about",
        "its usual values",
        "times as much as usual from one value to the next",
        "much more often than usual",
        "has read exactly",
        "over the last hours is unlike any in the",
        "has not moved for longer than usual",
        "does not follow the other metrics as usual",
        "metrics changed unusually at the same time",
        "its usual values in the first",
        "worse than since",
        "worse again in an episode since",
        "is as usual again",
    )
    for phrase in fixed:
        assert phrase in glossary, phrase
        assert any(phrase in text for text in sources), phrase
    assert "finds the metrics together unusual" in glossary
    assert any(
        "finds the metrics together unusual" in text
        for text in STRINGS["shared/scoring/explaining.py"]
    )


def test_every_view_is_explained():
    from shared.ensemble.fold import VIEW_NAMES

    section = TEXTS["docs/detection.md"].partition("## What a reason says")[2].partition("\n## ")[0]
    names = {cell for line in section.splitlines() for cell in re.findall(r"`(\w+)`", line)}
    assert set(VIEW_NAMES) <= names


def test_kinds_of_data_quality_are_all_explained():
    from shared.events import Kind
    from shared.quality.checks import KINDS
    from shared.quality.kernels.quality_layout import MIN_CHANGES, MIN_INTERVALS

    section = TEXTS["docs/detection.md"].partition("## Data quality")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    kinds = {kind.value for kind in (*KINDS, Kind.EVICTED, Kind.TOO_MANY_METRICS)}
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == kinds
    assert f"first {MIN_INTERVALS} intervals" in " ".join(section.split())
    assert f"changed at least {MIN_CHANGES} times" in section
