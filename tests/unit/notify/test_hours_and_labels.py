"""When and to whom a notice goes: hours, labels, templates, and what is refused at the start."""

from __future__ import annotations

import json
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from lapwing.notify import delivery, notify_loop
from lapwing.notify.notify_service import route_of, silences_of
from lapwing.notify.progress import METADATA_BYTES, Progress
from shared.batch import Position
from shared.errors import ConfigError
from shared.notices.bodies import alertmanager_body, mail, template_fields, text_of, webhook_body
from shared.notices.hours import Hours
from shared.notices.notice import EntityFilter, Route, Timing, is_silenced
from shared.operations.counters import NOTICES
from shared.settings import (
    TEMPLATE_FIELDS,
    HoursSettings,
    NotifySettings,
    TargetSettings,
    load_settings,
)
from tests.support.anomaly_logs import alarm
from tests.support.receivers import receiver
from tests.unit.notify.test_delivery import World
from tests.unit.notify.test_notices import CLOSED, NOW_MS, OPEN, WORSE, notices, records

BERLIN = ZoneInfo("Europe/Berlin")
HOOK = {"kind": "webhook", "url": "http://ops:1/"}
LABELS = r"(?P<service>[a-z]+)-(?P<number>\d+)"
EVERYBODY = EntityFilter(re.compile(".*"))


def moment(text: str, fold: int = 0) -> float:
    """Return a local time in Berlin as seconds since 1970 UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def hours(**given) -> Hours:
    return Hours.of(HoursSettings(zone="Europe/Berlin", **given))


@pytest.mark.parametrize(
    ("given", "inside", "outside"),
    [
        (
            {"days": "mon-fri", "start": "09:00", "end": "17:00"},
            ["2026-11-27 09:00", "2026-11-27 16:59"],  # a Friday
            ["2026-11-27 08:59", "2026-11-27 17:00", "2026-11-28 12:00"],
        ),
        (
            {"days": "fri", "start": "22:00", "end": "06:00"},
            ["2026-11-27 22:00", "2026-11-28 05:59"],
            ["2026-11-27 21:59", "2026-11-28 06:00", "2026-11-28 22:00", "2026-11-27 05:00"],
        ),
        (
            {"days": "sat-sun", "start": "00:00", "end": "24:00"},
            ["2026-11-28 00:00", "2026-11-29 23:59"],
            ["2026-11-27 23:59", "2026-11-30 00:00"],
        ),
        (
            {"days": ["sun"], "start": "08:00", "end": "08:00"},
            ["2026-11-29 08:00", "2026-11-30 07:59"],
            ["2026-11-29 07:59", "2026-11-30 08:00"],
        ),
        (
            {"days": "sun-mon", "start": "12:00", "end": "13:00"},
            ["2026-11-29 12:30", "2026-11-30 12:30"],
            ["2026-11-28 12:30", "2026-12-01 12:30"],
        ),
    ],
)
def test_hours_of_the_week(given, inside, outside):
    found = hours(**given)
    assert [found.contains(moment(text)) for text in inside] == [True] * len(inside)
    assert [found.contains(moment(text)) for text in outside] == [False] * len(outside)


def test_hours_follow_the_clock_when_summer_time_begins_and_ends():
    office = hours(days="mon-sun", start="09:00", end="17:00")
    for day in ("2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25"):
        opens = moment(f"{day} 09:00")
        assert [office.contains(at) for at in (opens - 1, opens)] == [False, True]
    night = hours(days="mon-sun", start="02:15", end="02:45")
    begins = moment("2026-10-25 02:15")
    assert night.contains(begins)
    assert night.contains(begins + 3600), "this half hour occurs twice"
    skipped = [moment("2026-03-29 01:00") + 60 * minute for minute in range(180)]
    assert not any(night.contains(at) for at in skipped), "and does not occur on this day"
    late = hours(days="sat", start="23:00", end="03:00")
    assert late.contains(moment("2026-03-29 03:00") - 1)
    assert not late.contains(moment("2026-03-29 03:00"))


def test_an_inverted_route_has_all_other_times():
    settings = NotifySettings(
        hours={"office": {"zone": "Europe/Berlin"}},
        targets={"desk": HOOK | {"hours": "office"}, "pager": HOOK | {"hours": "not office"}},
    )
    desk, pager = (route_of(settings, one, lambda _: {}) for one in settings.targets.values())
    [opened] = notices(OPEN)
    for k in range(14 * 24 * 4):
        now_s = NOW_MS / 1000 + 900 * k
        assert (desk.timing(opened, now_s) is Timing.NOW) != (
            pager.timing(opened, now_s) is Timing.NOW
        )


def test_outside_the_hours_a_notice_is_held_or_dropped_but_for_an_end():
    night = moment("2026-11-27 20:00")
    opened, worse, closed = notices(OPEN, WORSE, CLOSED)
    holding = Route("info", EVERYBODY, hours())
    assert [holding.timing(one, night) for one in (opened, worse, closed)] == [Timing.HELD] * 3
    dropping = Route("info", EVERYBODY, hours(), holds=False)
    found = [dropping.timing(one, night) for one in (opened, worse, closed)]
    assert found == [Timing.NEVER, Timing.NEVER, Timing.NOW]
    assert not dropping.is_held(night)


OFFICE = {"hours": {"office": {"zone": "Europe/Berlin"}}}


def test_what_is_held_is_sent_in_order_once_the_hours_begin_also_after_a_restart(monkeypatch):
    monkeypatch.setattr(delivery, "HOURS_CHECK_S", 0.02)
    with receiver() as desk, receiver() as chat:
        targets = {
            "desk": HOOK | {"url": desk.url, "hours": "office"},
            "chat": HOOK | {"url": chat.url},
        }
        world = World("", targets=targets, **OFFICE)
        world.now_s = lambda: moment("2026-11-27 20:00")
        loop = world.service()
        world.until(loop, lambda: world.position == 0)
        world.append(*records(OPEN, WORSE, CLOSED))
        world.until(loop, lambda: world.metadata == '{"settled":{"chat":3}}')
        assert desk.requests == []
        assert world.position == 0, "what is held has not been settled"
        for target in loop.targets.values():
            target.delivery.close()
        loop = world.service()
        for _ in range(10):
            loop.step()
        assert desk.requests == []
        world.now_s = lambda: moment("2026-11-30 09:00")
        world.until(loop, lambda: world.position == 3)
        wanted = ["e1open/open", "e1open/worse/critical", "e1open/resolved"]
        assert desk.taken == wanted
        assert chat.taken == wanted


def test_what_is_held_is_bounded_and_delays_no_other_target(monkeypatch):
    monkeypatch.setattr(notify_loop, "MOST_HELD", 5)
    monkeypatch.setattr(notify_loop, "MOST_WAITING", 6)
    with receiver() as desk, receiver() as chat:
        targets = {
            "desk": HOOK | {"url": desk.url, "hours": "office"},
            "chat": HOOK | {"url": chat.url},
        }
        world = World("", targets=targets, **OFFICE)
        world.now_s = lambda: moment("2026-11-27 20:00")
        loop = world.service()
        world.until(loop, lambda: world.position == 0)
        world.append(*records(*(alarm(k, "open", entity=f"h{k}", minute=9 * k) for k in range(20))))
        world.until(loop, lambda: len(chat.taken) == 20 and len(world.kept) == 15)
        assert {one.target for one in world.kept} == {"desk"}
        assert world.kept[0].why == "outside its hours, and 5 notices wait for them already"
        assert desk.requests == []


def test_what_is_dropped_is_counted():
    with receiver() as desk:
        targets = {"desk": HOOK | {"url": desk.url, "hours": "office", "outside_hours": "drop"}}
        world = World("", targets=targets, **OFFICE)
        world.now_s = lambda: moment("2026-11-27 20:00")
        loop = world.service()
        world.append(*records(OPEN, WORSE, CLOSED))
        world.now_s = lambda: moment("2026-11-27 16:00")
        world.until(loop, lambda: world.position == 3)
        world.now_s = lambda: moment("2026-11-27 20:00")
        world.append(*records(alarm(7, "open", minute=60)))
        world.until(loop, lambda: world.position == 4)
        assert "e7open/open" not in desk.taken
        assert world.counters.value(NOTICES, "desk", "outside_hours") == 1


def test_positions_and_their_metadata():
    progress = Progress({"a": None, "b": None})
    progress.begin(Position(5), 0, 20)
    assert progress.position() is None, "nothing has changed"
    progress.add("a", "k", 7)
    progress.next = 9
    assert progress.position() == Position(7, '{"settled":{"b":9}}')
    again = Progress({"a": None, "b": None})
    again.begin(progress.position(), 8, 20)
    assert again.next == 8, "retention has removed the first"
    assert [again.is_settled("b", at) for at in (-2, 8, 9)] == [False, True, False]
    assert not again.is_settled("a", 8)
    progress.settle("a", "k", 7)
    assert progress.position() == Position(9)
    many = Progress([f"target-{k:033d}" for k in range(200)])
    many.begin(Position(0), 0, 20)
    many.add(f"target-{0:033d}", "k", 3)
    many.next = 9
    assert len(many.position().metadata) <= METADATA_BYTES
    for text in ("", "{", "[]", '{"settled":3}', '{"settled":{"a":"x"}}'):
        many.begin(Position(3, text), 0, 20)
        assert not many.is_settled("a", 3), "metadata of another program is none"


def test_a_recreated_topic_is_known_by_its_id_or_its_end():
    old = Progress(["a", "b"], "old")
    assert not old.begin(Position(0), 0, 9)
    old.next = 7
    old.add("a", "k", 3)
    position = old.position()
    assert position == Position(3, '{"topic":"old","settled":{"b":7}}')
    for topic_id, end, recreated in (("old", 7, False), ("new", 7, True), ("old", 2, True)):
        progress = Progress(["a", "b"], topic_id)
        assert progress.begin(position, 0, end) == recreated
        assert progress.next == (0 if recreated else 3)
        assert progress.is_settled("b", 5) != recreated
    unknown = Progress(["a"], "new")
    assert not unknown.begin(Position(3), 0, 7), "a version without the id has committed it"


def test_all_of_a_recreated_topic_is_sent():
    with receiver() as inbox:
        world = World(inbox.url)
        loop = world.service()
        world.append(*records(OPEN, WORSE, CLOSED))
        world.until(loop, lambda: world.position == 3)
        for target in loop.targets.values():
            target.delivery.close()
        sent = len(inbox.taken)
        world.log.topics["incidents"][0].clear()
        world.log._stable.clear()
        world.append(*records(alarm(7, "open", entity="db", minute=50)))
        loop = world.service()
        world.until(loop, lambda: world.position == 1)
        assert inbox.taken[sent:] == ["e7open/open"]


def labels_settings(**notify):
    environ = {f"LAPWING_NOTIFY__{name.upper()}": json.dumps(one) for name, one in notify.items()}
    return load_settings(environ={"LAPWING_INCIDENTS__LABELS": LABELS} | environ)


def test_routes_by_label():
    settings = labels_settings(targets={"shop": HOOK | {"labels": {"service": "web|cart"}}})
    [target] = settings.notify.targets.values()
    route = route_of(settings.notify, target, settings.incidents.labels_of)
    [record] = records(OPEN)
    assert route.takes(record)
    assert not route.takes(record | {"entities": ["db-1", "web", "webs-1"]})
    assert route.takes(record | {"entities": ["db-1", "cart-2"]})


def test_silences_by_label_need_every_entity():
    settings = labels_settings(silences=[{"labels": {"service": "web", "number": "[12]"}}])
    silences = silences_of(settings.notify, settings.incidents.labels_of)
    [record] = records(OPEN)
    for entities, silent in (
        (["web-1", "web-2"], True),
        (["web-1", "db-1"], False),
        (["web-3"], False),
        (["web"], False),
    ):
        assert is_silenced(record | {"entities": entities}, silences, 0) == silent, entities


def test_an_alert_has_the_labels_of_its_entity_and_keeps_its_own():
    [opened] = notices(OPEN)
    [alert] = json.loads(
        alertmanager_body(opened, NOW_MS, 1000, {"service": "web", "entity": "x"}, "text")
    )
    assert alert["labels"]["service"] == "web"
    assert alert["labels"]["entity"] == "web-1"
    assert alert["annotations"]["description"] == "text"


def test_templates():
    opened, _, closed = notices(OPEN, WORSE, CLOSED)
    assert set(template_fields(opened, {})) == set(TEMPLATE_FIELDS)
    template = "$phase ${severity}: $title ($labels), since $start$end, $$5"
    text = text_of(opened, template, {"service": "web", "number": "1"})
    assert text == (
        "open minor: web-1: cpu unusually high (number=1, service=web), since 2014-05-13 16:54 UTC,"
        " $5"
    )
    assert json.loads(webhook_body(opened, "slack", "<a>")) == {"text": "&lt;a&gt;"}
    assert json.loads(webhook_body(opened, "json", "mine"))["text"] == "mine"
    sent = mail(closed, "a@b", ("c@d",), "$x\n1", "mine")
    assert sent["Subject"] == "$x 1"
    assert sent.get_content() == "mine\n"


def test_a_name_of_the_metrics_is_never_a_template():
    [opened] = notices(OPEN | {"reason": "$title $nothing"})
    assert text_of(opened, "$reason") == "$title $nothing"


@pytest.mark.parametrize(
    ("section", "given", "message"),
    [
        ("targets", {"a": HOOK | {"template": "$tite"}}, "targets.a.template .*names tite; it may"),
        ("targets", {"a": HOOK | {"template": "5 $ x"}}, "targets.a.template .*not a template"),
        ("targets", {"a": HOOK | {"subject": "x"}}, "targets.a .*subject belongs to kind email"),
        ("targets", {"a": HOOK | {"hours": "office"}}, "targets.a.hours is 'office', but .*none"),
        ("targets", {"a": HOOK | {"labels": {"x": "."}}}, "targets.a.labels names x, but .*number"),
        ("targets", {"a": HOOK | {"labels": {"service": "("}}}, "targets.a.labels.service .*regul"),
        ("targets", {"a": HOOK | {"outside_hours": "x"}}, "outside_hours .*'hold' or 'drop'"),
        ("hours", {"o": {"zone": "Europe/Berln"}}, "hours.o.zone .*not an IANA time zone"),
        ("hours", {"o": {"zone": "../etc"}}, "hours.o.zone .*not an IANA time zone"),
        ("hours", {"o": {"days": "mon-fry"}}, "hours.o.days .*'mon-fry': days are"),
        ("hours", {"o": {"days": ""}}, "hours.o.days .*at least one day"),
        ("hours", {"o": {"start": "9:00"}}, "hours.o.start .*HH:MM"),
        ("hours", {"o": {"end": "24:30"}}, "hours.o.end .*HH:MM"),
        ("hours", {"not o": {}}, "letters, digits"),
        ("silences", [{"labels": {"x": "."}}], "silences.0.labels names x, but"),
        (
            "silences",
            [{"start": "2026-01-02T00:00:00", "end": "2026-01-01T00:00:00Z"}],
            "end must be after start",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(section, given, message):
    with pytest.raises(ConfigError, match=message):
        labels_settings(**{section: given})


def test_a_refusal_shows_no_secret():
    targets = {"a": HOOK | {"secret": "hidden-1", "labels": {"x": "."}}}
    with pytest.raises(ConfigError) as refused:
        labels_settings(targets=targets)
    assert "hidden" not in str(refused.value)
    assert "hidden" not in repr(TargetSettings(**HOOK, secret="hidden-1"))
