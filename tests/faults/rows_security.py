"""Rows about TLS, SASL and ACLs: rights, certificates, passwords and tokens.

Invariant: every refusal is named within LIMIT_S, nothing is lost by it, and no log of any service
           or broker holds a secret.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import schemas
from lapwing.acls import Right
from shared.encode.dead_letters import GROUP
from shared.encode.records import decode_records
from shared.kafka import Admin, Reader
from shared.settings import Settings
from tests.faults.run import RowFailed
from tests.faults.secured_site import CLIENTS, DAYS, STAYS, WAIT_S, WARNS, Attempt, Site
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed

READS = ("lapwing", "feedback", "list")
"""What needs to read the topic of feedback."""

HISTORY = ("predictor", "activations", "Read")
"""Needed only where a partition has a history: service, topic, operation."""

DENIED = "AUTHORIZATION_FAILED"
EVENTS = 6 * 288 * DAYS

BRIEF = (
    ("predictor", "scores"),
    ("predictor", "transactional-id"),
    ("producer", "raw"),
)
"""What is taken away in CI: service, and part of a resource or of its name."""


@row("security: each right is needed, and those suffice", ci=1)
def rights(testbed: Testbed, tally: Tally) -> None:
    """Each service under its own principal; first with one right less, then with all."""
    site = Site(testbed, tally)
    try:
        site.prepare()
        if not tally.brief:
            site.fill()
        taken_away = 0
        for client, right, operation in _each_right(site):
            if (client, operation) == HISTORY[::2] and HISTORY[1] in right.name:
                continue
            text = f"{right.resource} {right.name}"
            if tally.brief and not any(c == client and part in text for c, part in BRIEF):
                continue
            taken_away += 1
            site.security.grant(client, _without(site.rights[client], right, operation))
            what = f"{client} without {operation} of {text}"
            reads = client == "feedback" and right.name.endswith("feedback") and operation == "Read"
            attempt = site.start(client, command=READS if reads else None)
            goes_on = client == WARNS[0] and WARNS[1] in right.name
            site.refused(attempt, _signs(client), what, goes_on=goes_on)
        for client in CLIENTS:
            site.security.grant(client, site.rights[client])
        _all_work(site, tally)
        _without_history(site)
        site.no_secret_is_logged()
        tally.more |= {"rights_taken_away": taken_away, "slowest_s": round(site.slowest_s, 1)}
        tally.runs += 1
    finally:
        site.close()


@row("security: wrong certificates, passwords and tokens")
def credentials(testbed: Testbed, tally: Tally) -> None:
    """Refused at the start, then in mid-stream; each is named, and the stream goes on after."""
    site = Site(testbed, tally)
    security, client = site.security, "predictor"
    try:
        site.prepare()
        security.grant(client, site.rights[client])
        cases = list(_wrong(site, client))
        for number, (what, environ, signs) in enumerate(cases):
            if tally.brief and number % 4:
                continue
            with environ() as variables:
                site.refused(site.start(client, variables), signs, what)
        running = site.start(client)
        _await(lambda: "partition taken over" in running.text(), "the start", running)
        security.grant(client, _without(site.rights[client], site.rights[client][1], "Write"))
        running.began_s = time.monotonic()
        more = site.start("producer")
        site.refused(running, [DENIED], "a right taken away in mid-stream")
        more.ends(tally, 0)
        security.grant(client, site.rights[client])
        site.start(client).until(tally, lambda: _lag(site.settings) == 0)
        _count(site, tally, 2 * EVENTS)
        site.no_secret_is_logged()
        tally.more["slowest_s"] = round(site.slowest_s, 1)
        tally.runs += 1
    finally:
        site.close()


def _without_history(site: Site) -> None:
    """Let a predictor without snapshots take partitions over that have activations."""
    client = HISTORY[0]
    [right] = [one for one in site.rights[client] if HISTORY[1] in one.name]
    site.security.grant(client, _without(site.rights[client], right, HISTORY[2]))
    site.start("producer").ends(site.tally, 0)
    (site.folder / "no-snapshots").mkdir()
    environ = site.entered(client) | {"LAPWING_STATE_DIR": str(site.folder / "no-snapshots")}
    site.refused(site.start(client, environ), [DENIED], f"{client} without {HISTORY[2]} of history")


def _each_right(site: Site) -> Iterable[tuple[str, Right, str]]:
    for client in CLIENTS:
        if client != "setup":
            for right in site.rights[client]:
                for operation in right.operations:
                    yield client, right, operation


def _without(granted: Iterable[Right], less: Right, operation: str) -> list[Right]:
    """Return rights without one operation of one of them."""
    left = []
    for right in granted:
        if right == less:
            operations = tuple(one for one in right.operations if one != operation)
            right = replace(right, operations=operations)
        if right.operations:
            left.append(right)
    return left


def _signs(client: str) -> list[str]:
    return [DENIED] if client != STAYS else [DENIED, "authorization failed"]


def _all_work(site: Site, tally: Tally) -> None:
    """Run the services with all of their rights, and check what they have done."""
    settings = site.settings
    if not tally.brief:
        site.start("training").ends(tally, 0)
        site.start("route").until(
            tally, lambda: _lag(settings, settings.route.group, settings.route.source) == 0
        )
    marker = 0 if tally.brief else 1  # of route's transaction, behind its only event
    site.start("predictor").until(tally, lambda: _lag(settings) <= marker)
    _count(site, tally, EVENTS + (0 if tally.brief else 1))
    if tally.brief:
        return
    topics = settings.topics
    site.start("incidents").until(
        tally, lambda: _is_through(settings, settings.incidents.group, topics.anomalies)
    )
    site.start("notify").until(
        tally, lambda: _is_through(settings, settings.notify.group, topics.incidents)
    )
    site.start("feedback").ends(tally, 0)
    site.start("dlq").ends(tally, 0)
    admin = Admin(settings)
    for topic in (topics.incidents, topics.unsent, topics.feedback, settings.route.dead_letters):
        ends = sum(admin.end_offsets(topic).values())
        tally.require(ends > 0, f"{site.name}: nothing was written to {topic}")
    admin.close()
    page = site.start("dashboard")
    _await(lambda: _pipeline_is_clean(site), "a page without a problem", page)
    tally.require(page.stop() == 0, f"the page did not end\n{page.text()[-1500:]}")


def _pipeline_is_clean(site: Site) -> bool:
    port = site.environ["LAPWING_DASHBOARD__PORT"]
    with contextlib.suppress(OSError, ValueError):
        url = f"http://127.0.0.1:{port}/v1/pipeline"
        with urllib.request.urlopen(url, timeout=2) as answer:
            found = json.loads(answer.read())
        return DENIED not in json.dumps(found) and not found["lag"]["problem"]
    return False


def _wrong(
    site: Site, client: str
) -> Iterable[
    tuple[str, Callable[[], contextlib.AbstractContextManager[dict[str, str]]], list[str]]
]:
    """Yield (what is wrong, its environment, texts one of which must name it)."""
    security, tokens = site.security, site.security.tokens

    def given(
        environ: dict[str, str], **more: str
    ) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        return lambda: contextlib.nullcontext(environ | more)

    def with_tokens(
        name: str, value: object
    ) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        @contextlib.contextmanager
        def changed() -> Iterable[dict[str, str]]:
            usual = getattr(tokens, name)
            setattr(tokens, name, value)
            try:
                yield security.oauth(client)
            finally:
                setattr(tokens, name, usual)

        return changed

    scram, stranger = security.scram(client), str(security.stranger.ca)
    other = site.file("other.password", "registry:not-the-password")
    yield "wrong password", given(security.scram(client, "not-the-password")), ["AUTHENTICATION"]
    yield (
        "a broker of another authority",
        given(scram, LAPWING_KAFKA__SSL_CA_LOCATION=stranger),
        ["certificate verify failed"],
    )
    yield (
        "a certificate of another authority",
        given(security.mutual(client, security.stranger)),
        ["SSL alert number"],
    )
    yield "an expired certificate", given(security.mutual(client, days=-1)), ["SSL alert number"]
    yield "an expired token", with_tokens("life_s", -60.0), ["unexpired token"]
    yield "a token of another issuer", with_tokens("is_foreign", True), ["invalid_token"]
    yield "a wrong client secret", with_tokens("secrets", {}), ["invalid_client"]
    yield (
        "a wrong password of the registry",
        given(scram, LAPWING_REGISTRY__BASIC_AUTH_FILE=other),
        ["registry.basic_auth is not accepted"],
    )
    yield (
        "a registry of another authority",
        given(scram, LAPWING_REGISTRY__CA_FILE=stranger),
        ["CERTIFICATE_VERIFY_FAILED"],
    )


def _count(site: Site, tally: Tally, good: int) -> None:
    """Count results: one score or dead letter for each record of the input."""
    settings, topics = site.settings, site.settings.topics
    text = schemas.text(schemas.SCORE_EVENT)
    places: Counter[tuple[int, int]] = Counter()
    for batch in Reader(settings).read(topics.scores):
        for record in decode_records(batch.values, [text] * len(batch)):
            places[record["source_partition"], record["source_offset"]] += 1
    scores = places.total()
    for batch in Reader(settings).read(topics.dead_letters):
        for row_number in range(len(batch)):
            headers = dict(batch.headers[row_number])
            if headers[GROUP] != settings.predict.group.encode():
                continue  # the one that was there before
            partition, offset = (
                int(headers[f"__connect.errors.{name}"]) for name in ("partition", "offset")
            )
            places[partition, offset] += 1
    records = {
        (batch.partition, int(offset))
        for batch in Reader(settings).read(topics.input)
        for offset in batch.offsets
    }
    tally.counts.lost += len(records - places.keys())
    tally.counts.wrong += len(places.keys() - records)
    tally.counts.duplicates += sum(times - 1 for times in places.values())
    tally.require(scores == good, f"{site.name}: {scores} scores of {good} records")
    tally.events += len(records)


def _lag(settings: Settings, group: str = "", topic: str = "") -> int:
    admin = Admin(settings)
    try:
        lag = admin.lag(group or settings.predict.group, topic or settings.topics.input)
        return sum(lag.values())
    finally:
        admin.close()


def _is_through(settings: Settings, group: str, topic: str) -> bool:
    """Return whether only the marker of the last transaction is left in each partition."""
    admin = Admin(settings)
    try:
        return all(behind <= 1 for behind in admin.lag(group, topic).values())
    finally:
        admin.close()


def _await(done: Callable[[], bool], what: str, attempt: Attempt) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > deadline or attempt.process.poll() is not None:
            raise RowFailed(f"{what} did not happen\n{attempt.text()[-2500:]}")
        time.sleep(0.1)
