"""Equal questions within a moment share one answer; an answer is never older than its version."""

from __future__ import annotations

import threading
import time

import pytest
from fastapi.responses import JSONResponse

from dashboard.routes.shared_answers import MOST_AGE_S, MOST_ANSWERS, SharedAnswers


class World:
    """A clock, a version, and how often something was computed."""

    def __init__(self):
        self.now_s, self.version, self.computed = 0.0, 1, 0
        self.shared = SharedAnswers(lambda: self.version, lambda: self.now_s)

    def compute(self, status=200):
        self.computed += 1
        return JSONResponse({"number": self.computed}, status)

    def ask(self, question="q", status=200):
        return self.shared.get(question, lambda: self.compute(status)).body


@pytest.fixture
def world():
    return World()


def test_an_answer_is_shared_until_it_is_too_old_or_something_happened(world):
    first = world.ask()
    world.now_s = 0.9 * MOST_AGE_S
    assert world.ask() == first == b'{"number":1}'
    assert world.ask("another question") == b'{"number":2}'
    world.now_s = MOST_AGE_S
    assert world.ask() == b'{"number":3}'
    world.version = 2
    assert world.ask() == b'{"number":4}', "at once, not after a moment"


def test_what_changes_while_an_answer_is_computed_makes_it_stale(world):
    def compute():
        response = world.compute()
        world.version += 1
        return response

    world.shared.get("q", compute)
    assert world.ask() == b'{"number":2}'


def test_refusals_are_not_kept(world):
    world.ask(status=422)
    assert world.ask() == b'{"number":2}'


def test_few_answers_are_kept(world):
    for number in range(2 * MOST_ANSWERS):
        world.ask(number)
    assert len(world.shared._kept) == MOST_ANSWERS


def test_many_askers_at_once_wait_for_one_computation(world):
    def slow():
        time.sleep(0.1)
        return world.compute()

    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(world.shared.get("q", slow).body))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b'{"number":1}'] * 20


def test_an_error_leaves_nothing_behind(world):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        world.shared.get("q", fail)
    assert world.ask() == b'{"number":1}'
