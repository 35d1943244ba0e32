"""GroupSource against a scripted client: group events and records in awkward orders."""

from __future__ import annotations

import pytest

from shared.batch import Position
from shared.errors import (
    HistoryGone,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Flags
from tests.support.scripted_source import (
    TIMED_OUT,
    Stage,
    Step,
    record,
    trouble,
)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_partitions_start_where_the_listener_says(stage: Stage) -> None:
    stage.client.positions = {1: Position(40, "model")}
    stage.client.starts = {0: 7, 1: 30}
    stage.listener.answer = {1: 35}
    stage.own(0, 1)
    assert stage.listener.committed == {0: None, 1: Position(40, "model")}
    assert stage.client.assigned == {0: 7, 1: 35}
    assert stage.poll([record(1, 35), record(0, 7), record(1, 36)]) == [(1, [35, 36]), (0, [7])]


def test_a_start_before_the_log_is_refused(stage: Stage) -> None:
    stage.client.starts = {0: 50}
    stage.listener.answer = {0: 49}
    with pytest.raises(
        HistoryGone, match=r"t\[0\] must be read from offset 49 on, but its log starts at 50"
    ):
        stage.own(0)
    assert stage.client.assigned == {}


def test_an_answer_for_other_partitions_is_a_bug(stage: Stage) -> None:
    stage.listener.answer = {}
    stage.listener.assigned = lambda committed, start: {0: 0, 5: 0}  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match=r"called with partitions \[0, 1\] and returned offsets for \[0, 5\]"
    ):
        stage.own(0, 1)


def test_records_of_a_partition_that_goes_in_the_same_call_are_dropped(stage: Stage) -> None:
    stage.own(0, 1)

    def revoke_in_the_middle() -> list[Step]:
        stage.client.revoke(1)
        return [record(1, 1), record(0, 1), record(1, 2)]

    assert stage.poll([record(1, 0)], revoke_in_the_middle) == [(0, [1])]
    assert stage.listener.calls[-1] == ("revoked", [1])
    assert stage.client.assigned == {0: 0}


def test_a_partition_that_goes_and_comes_back_starts_at_its_committed_position(
    stage: Stage,
) -> None:
    stage.own(0)

    def go_and_come() -> list[Step]:
        stage.client.revoke(0)
        stage.client.positions = {0: Position(5)}
        stage.client.assign(0)
        return [record(0, 6), record(0, 7)]

    assert stage.poll(go_and_come) == []
    assert stage.client.assigned == {0: 5}
    assert stage.poll([record(0, 5)]) == [(0, [5])]
    assert [what for what, _ in stage.listener.calls] == ["assigned", "revoked", "assigned"]


@pytest.mark.parametrize("how", ["revoked", "lost"])
def test_what_a_listener_raises_comes_out_and_other_records_wait(stage: Stage, how: str) -> None:
    stage.own(0, 1)
    stage.listener.fail[how] = TransactionAborted("asked to")
    go = stage.client.revoke if how == "revoked" else stage.client.lose
    with pytest.raises(TransactionAborted, match="asked to"):
        stage.poll([record(0, 0)], lambda: [*go(1), record(0, 1), record(1, 0)])
    assert stage.client.assigned == {0: 0}
    assert stage.poll([record(0, 2)]) == [(0, [0, 1, 2])]


def test_a_takeover_that_fails_is_tried_again_and_the_others_go_on(stage: Stage) -> None:
    stage.own(0)
    stage.client.unavailable = TIMED_OUT
    assert stage.poll([record(0, 0)], lambda: stage.client.assign(1)) == [(0, [0])]
    with pytest.raises(TransportError, match="no coordinator") as refusal:
        stage.poll()
    assert refusal.value.retriable
    assert stage.poll([record(0, 1)]) == [(0, [1])]
    assert stage.client.asked == ["committed"] * 2, "tried again at once"
    stage.client.unavailable = None
    stage.now_s += 1.0
    assert stage.poll([record(0, 2)]) == [(0, [2])]
    assert stage.client.assigned == {0: 0, 1: 0}
    assert stage.listener.calls == [("assigned", [0]), ("assigned", [1])]


def test_a_partition_that_goes_before_it_was_taken_over_is_not_spoken_of(stage: Stage) -> None:
    stage.client.unavailable = TIMED_OUT
    with pytest.raises(TransportError):
        stage.own(0, 1)
    with pytest.raises(TransportError):
        stage.poll(lambda: stage.client.revoke(1))
    stage.client.unavailable = None
    stage.now_s += 1.0
    stage.poll()
    assert stage.listener.calls == [("assigned", [0])]
    assert stage.client.assigned == {0: 0}


def test_a_partition_that_goes_during_a_rewind_is_spoken_of(stage: Stage) -> None:
    stage.own(0, 1)
    stage.client.unavailable = TIMED_OUT
    with pytest.raises(TransportError):
        stage.source.rewind()
    assert stage.client.assigned == {}
    with pytest.raises(TransportError):
        stage.poll(lambda: stage.client.revoke(1))
    assert stage.listener.calls[-1] == ("revoked", [1])
    stage.client.unavailable = None
    stage.client.positions = {0: Position(3)}
    stage.source.rewind()
    assert stage.client.assigned == {0: 3}


def test_a_rewind_forgets_what_was_held(stage: Stage) -> None:
    stage.own(0)
    assert stage.poll([record(0, n) for n in range(5)], count=2) == [(0, [0, 1])]
    stage.source.pause()
    assert stage.poll() == []
    stage.source.rewind()
    stage.source.resume()
    assert stage.poll([record(0, 0)]) == [(0, [0])]


def test_paused_partitions_deliver_nothing_also_new_ones(stage: Stage) -> None:
    stage.own(0)
    stage.source.pause()
    stage.own(1)
    assert stage.client.paused == {0, 1}
    assert stage.poll([record(0, 0)]) == []
    stage.source.resume()
    assert stage.client.paused == set()
    assert stage.poll([record(0, 1)]) == [(0, [0, 1])]


def test_what_was_held_does_not_outlive_its_ownership(stage: Stage) -> None:
    stage.own(0, 1)
    stage.source.pause()
    stage.poll([record(1, 0)])
    stage.poll(lambda: stage.client.revoke(1))
    stage.client.positions = {1: Position(9)}
    stage.own(1)
    stage.source.resume()
    assert stage.poll([record(1, 9)]) == [(1, [9])]


def test_partitions_are_taken_over_in_the_call_that_learns_of_them(stage: Stage) -> None:
    stage.client.steps.append(lambda: stage.client.assign(0))
    assert stage.source.poll(10, 0.0) == []
    assert stage.client.assigned == {0: 0}


def test_a_seek_drops_what_is_held_of_that_partition(stage: Stage) -> None:
    stage.own(0, 1)
    stage.source.pause()
    stage.poll([record(0, 0)])
    stage.poll([record(1, 0)])
    stage.source.seek(1, 70)
    stage.source.resume()
    assert stage.client.assigned == {0: 0, 1: 70}
    assert stage.poll() == [(0, [0])]


def test_an_error_between_records_loses_none_of_them(stage: Stage) -> None:
    stage.own(0)
    with pytest.raises(TransportError, match=r"reading t\[0\] of localhost:9092: because"):
        stage.poll([record(0, 0)], [trouble(Code.LOCAL_FAIL), record(0, 1)])
    assert stage.poll() == [(0, [0, 1])]
    for code, kind in (
        (Code.LOCAL_AUTO_OFFSET_RESET, HistoryGone),
        (Code.UNKNOWN_TOPIC_OR_PART, TopicMismatch),
    ):
        with pytest.raises(kind):
            stage.poll([trouble(code)])


def test_long_silence_without_a_complaint_is_an_outage_when_nobody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that is stopped, not killed, leaves its connections open: nobody complains."""
    stage = Stage(monkeypatch)
    stage.own(0)
    stage.client.unavailable = ClientError(Code.LOCAL_TRANSPORT, "gone")
    stage.now_s += 2.0
    assert stage.poll() == []
    stage.now_s += 1.5
    with pytest.raises(TransportError, match=r"reading t of localhost:9092: "):
        stage.poll()
    assert stage.poll() == []
    stage.now_s += 1.0
    with pytest.raises(TransportError):
        stage.poll()
    stage.client.unavailable = None
    stage.now_s += 1.0
    asked = stage.client.asked.count("topics")
    assert stage.poll() == []
    stage.now_s += 2.0
    assert stage.poll() == []
    assert stage.client.asked.count("topics") == asked + 1


def test_a_member_without_partitions_asks_whether_anybody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch)
    assert stage.poll() == []
    stage.client.unavailable = ClientError(Code.LOCAL_TRANSPORT, "gone")
    stage.now_s += 1.0
    with pytest.raises(TransportError, match=r"reading t of localhost:9092: "):
        stage.poll()


def test_silence_after_a_complaint_is_an_outage_only_when_nobody_answers(stage: Stage) -> None:
    stage.own(0)
    stage.client.complain(ClientError(Code.LOCAL_ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert stage.poll() == []
    stage.client.unavailable = ClientError(Code.LOCAL_TRANSPORT, "gone")
    stage.now_s += 2.0
    assert stage.poll() == []
    assert stage.client.asked == ["committed", "topics"], "asked again without a new complaint"
    stage.client.complain(ClientError(Code.LOCAL_ALL_BROKERS_DOWN, "1/1 brokers are down"))
    stage.now_s += 2.0
    with pytest.raises(
        TransportError, match="reading t of localhost:9092: 1/1 brokers are down"
    ) as outage:
        stage.poll()
    assert outage.value.retriable
    stage.now_s += 2.0
    assert stage.poll([record(0, 0)]) == [(0, [0])]


def test_a_poll_gathers_unless_records_are_held_or_it_is_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, gather_s=0.01)
    stage.own(0)
    assert stage.poll([record(0, 0), record(0, 1)], count=2) == [(0, [0, 1])]
    assert stage.client.waited[-1] == (
        pytest.approx(0.02, abs=0.005),
        pytest.approx(0.01, abs=0.007),
    )
    stage.source.pause()
    assert stage.poll([record(0, 2)]) == []
    assert stage.client.waited[-1][1] == 0.0
    stage.source.resume()
    assert stage.poll([record(0, 3)]) == [(0, [2, 3])]
    assert stage.client.waited[-1][0] == 0.0, "what is held is not kept waiting"


@pytest.mark.parametrize(("waited_s", "gather_s"), [(2.0, 8.0), (11.0, 0.0)])
def test_a_poll_gathers_less_for_records_that_may_have_waited_since_the_one_before(
    monkeypatch: pytest.MonkeyPatch, waited_s: float, gather_s: float
) -> None:
    stage = Stage(monkeypatch, gather_s=10.0)
    stage.own(0)
    assert stage.poll([record(0, 0)]) == [(0, [0])]
    stage.now_s += waited_s
    assert stage.poll([record(0, 1)]) == [(0, [1])]
    assert stage.client.waited[-1][1] == pytest.approx(gather_s, abs=0.05)


def twin() -> ClientError:
    return ClientError(Code.FENCED_INSTANCE_ID, "a second one", Flags.FATAL)


def test_a_twin_ends_this_member(stage: Stage) -> None:
    stage.own(0)
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])
    assert len(stage.clients) == 1


def test_a_member_that_fenced_itself_in_an_outage_joins_again_once(stage: Stage) -> None:
    stage.own(0, 1)
    stage.poll(lambda: stage.client.lose(0, 1))
    stage.own(0)
    assert stage.poll([record(0, 0), twin()]) == []
    assert stage.listener.calls[-1] == ("lost", [0])
    assert (len(stage.clients), stage.clients[0].closed) == (2, 1)
    stage.own(0, 1)
    assert stage.poll([record(0, 0)]) == [(0, [0])]
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])
    assert len(stage.clients) == 2


def test_a_member_whose_broker_went_may_have_fenced_itself_before_it_lost_anything(
    stage: Stage,
) -> None:
    stage.own(0)
    stage.client.complain(ClientError(Code.LOCAL_TRANSPORT, "gone"))
    assert stage.poll([twin()]) == []
    assert stage.listener.calls[-1] == ("lost", [0])
    stage.own(0)
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])


def test_each_outage_explains_one_fencing(stage: Stage) -> None:
    for joined in range(1, 4):
        stage.own(0)
        stage.client.complain(ClientError(Code.LOCAL_TRANSPORT, "gone"))
        assert stage.poll([twin()]) == []
        assert len(stage.clients) == joined + 1
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])


def test_a_member_without_an_id_has_fenced_itself_however_often(stage: Stage) -> None:
    for joined in range(1, 5):
        stage.own(0)
        stage.client.member = None  # its session has ended, and the broker has not said a word
        assert stage.poll([twin()]) == []
        assert stage.listener.calls[-1] == ("lost", [0])
        assert len(stage.clients) == joined + 1
    stage.own(0)
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])


def test_a_session_that_ends_again_soon_after_an_outage_is_no_second_process(stage: Stage) -> None:
    stage.own(0)
    stage.client.complain(ClientError(Code.LOCAL_TRANSPORT, "gone"))
    assert stage.poll([twin()]) == []
    stage.own(0)
    stage.client.member = None
    stage.client.steps.append(lambda: stage.client.revoke(0))  # not lost: it was started since
    assert stage.poll([twin()]) == []
    stage.own(0)
    assert stage.poll([record(0, 0)]) == [(0, [0])]


def test_a_fencing_is_noticed_beside_other_errors_and_failures(stage: Stage) -> None:
    stage.own(0, 1)
    stage.client.member = None
    assert stage.poll([TIMED_OUT, twin()]) == []
    stage.own(0, 1)
    stage.client.member = None
    stage.listener.fail["lost"] = ValueError("a bug")
    stage.client.steps.append(lambda: [*stage.client.lose(0), twin()])
    with pytest.raises(ValueError, match="a bug"):
        stage.poll()
    assert stage.poll() == []
    assert len(stage.clients) == 3


def test_a_client_that_cannot_name_its_id_proves_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise TIMED_OUT

    stage.own(0)
    monkeypatch.setattr(stage.client, "membership", fail)
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])


def test_a_fenced_transaction_in_a_callback_is_no_reason_to_join_again(stage: Stage) -> None:
    stage.own(0, 1)
    stage.poll(lambda: stage.client.lose(0))
    stage.listener.fail["revoked"] = ProducerFenced("a newer producer")
    with pytest.raises(ProducerFenced, match="a newer producer"):
        stage.poll(lambda: stage.client.revoke(1))
    assert len(stage.clients) == 1


@pytest.mark.parametrize(
    ("code", "flags", "reason"),
    [
        (Code.UNRELEASED_INSTANCE_ID, Flags.FATAL, "this slot's group.instance.id"),
        (Code.GROUP_ID_NOT_FOUND, Flags.FATAL, "members with group.protocol=classic"),
        (Code.INCONSISTENT_GROUP_PROTOCOL, Flags.NONE, "members with another group.protocol"),
    ],
)
def test_a_member_that_is_not_admitted_yet_says_why_and_joins_again(
    stage: Stage, caplog: pytest.LogCaptureFixture, code: Code, flags: Flags, reason: str
) -> None:
    for joined in range(1, 4):
        with pytest.raises(TransportError, match=reason) as refused:
            stage.poll([ClientError(code, "not yet", flags)])
        assert refused.value.retriable
        assert (len(stage.clients), stage.clients[-2].closed) == (joined + 1, 1)
    assert stage.slept_s == [1.0, 1.0, 1.0]
    assert len([line for line in caplog.messages if reason in line]) == 1
    stage.own(0)
    assert stage.poll([record(0, 0)]) == [(0, [0])]
    assert stage.listener.calls == [("assigned", [0])]


@pytest.mark.parametrize(("instance_id", "silent_s"), [(None, 0.0), ("g-a", 7.0)])
def test_a_member_without_partitions_joins_anew_for_those_that_nobody_has(
    monkeypatch, instance_id, silent_s
) -> None:
    stage = Stage(monkeypatch, instance_id)
    stage.own()
    stage.engine.unassigned = {2}
    stage.poll()
    assert len(stage.clients) == 1
    stage.now_s += 9.0
    stage.poll()
    assert (len(stage.clients), stage.clients[0].closed, stage.slept_s) == (2, 1, [silent_s])
    stage.own(0, 1, 2)
    stage.engine.unassigned = set()
    stage.now_s += 60.0
    assert stage.poll([record(2, 0)]) == [(2, [0])]
    assert len(stage.clients) == 2


def test_a_member_with_partitions_leaves_that_to_one_without_for_a_while(stage: Stage) -> None:
    stage.own(0, 1)
    stage.engine.unassigned = {2}
    stage.now_s += 9.0
    stage.poll()
    assert (len(stage.clients), stage.listener.calls) == (1, [("assigned", [0, 1])])
    stage.now_s += 15.0
    stage.poll()
    assert (len(stage.clients), stage.listener.calls[-1]) == (2, ("lost", [0, 1]))


def test_nothing_is_done_where_every_partition_has_an_owner(stage: Stage) -> None:
    stage.own(0)
    stage.now_s += 600.0
    stage.poll()
    assert len(stage.clients) == 1


def test_nothing_is_done_where_nobody_tells_who_has_what(stage: Stage) -> None:
    stage.own(0)
    stage.engine.unassigned, stage.engine.answers = {2}, False
    stage.now_s += 600.0
    stage.poll()
    assert len(stage.clients) == 1


def test_closing_tells_nobody(stage: Stage) -> None:
    stage.own(0)
    stage.source.close()
    stage.source.close()
    assert stage.client.closed == 1
    assert stage.listener.calls == [("assigned", [0])]
