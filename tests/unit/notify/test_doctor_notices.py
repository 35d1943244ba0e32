"""What ``lapwing doctor`` says of notices: sent, not sent by anybody, refused."""

from __future__ import annotations

import numpy as np

from lapwing.doctor.notices import check_notices
from shared.batch import Batch, Blob
from shared.errors import TransportError
from shared.settings import Settings

OPS = {"ops": {"kind": "webhook", "url": "http://ops:1/"}}


class Topics:
    def __init__(self, unsent: int = 0, lag: int = 3, members: int = 1) -> None:
        self.unsent, self.behind, self.member_count = unsent, lag, members

    def bounds(self, topic):
        if self.unsent < 0:
            raise TransportError("no answer")
        return {0: 2}, {0: 2 + self.unsent}

    def lag(self, group, topic):
        return {0: self.behind}

    def members(self, group):
        return self.member_count

    def read(self, topic, start, end):
        assert (start, end) == ({0: 1 + self.unsent}, {0: 2 + self.unsent})
        headers = [("lapwing.notice.target", b"ops"), ("lapwing.notice.reason", b"it answered 400")]
        one, at = Blob.join([b"{}"]), np.array([1_400_000_000_000], np.int64)
        yield Batch(topic, 0, one, one, np.array([1 + self.unsent], np.int64), at, {0: headers})


def found(topics: Topics, targets=OPS):
    settings = Settings.model_validate({"notify": {"targets": targets}})
    return [(one.result, one.message) for one in check_notices(settings, topics, topics)]


def test_nothing_is_said_where_nothing_is_meant_to_be_sent():
    assert found(Topics(), {}) == []


def test_notices_are_sent():
    message = "lapwing-notify: 1 instance, 3 records behind, none unsent"
    assert found(Topics()) == [("ok", message)]


def test_nobody_sends_them():
    assert found(Topics(members=0))[0][0] == "warning"


def test_what_could_not_be_sent_is_named():
    [(result, message)] = found(Topics(unsent=4), {})
    assert result == "warning"
    assert message == (
        "4 notices could not be sent; the newest, of 2014-05-13 16:53:20, to ops: it answered 400"
    )


def test_a_broker_that_does_not_answer():
    assert found(Topics(unsent=-1)) == [("warning", "no answer")]
