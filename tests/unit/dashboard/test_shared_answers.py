"""Equal questions within a moment share one answer; an answer is never older than its version."""

from __future__ import annotations

import asyncio
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
        return self.get(lambda: self.compute(status), question).body

    def get(self, compute, question="q"):
        return asyncio.run(self.shared.get(question, compute))


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

    world.get(compute)
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

    async def ask_all():
        return await asyncio.gather(*(world.shared.get("q", slow) for _ in range(100)))

    answers = [answer.body for answer in asyncio.run(ask_all())]
    assert answers == [b'{"number":1}'] * 100


def test_an_error_leaves_nothing_behind(world):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        world.get(fail)
    assert world.ask() == b'{"number":1}'


def test_who_waits_leaves_the_threads_to_other_questions(world):
    """More askers of one question than there are threads, and another question in between."""
    release = threading.Event()

    def slow():
        assert release.wait(20)
        return world.compute()

    async def ask_all():
        waiting = [asyncio.create_task(world.shared.get("q", slow)) for _ in range(100)]
        await asyncio.sleep(0.05)
        other = await asyncio.wait_for(world.shared.get("another", world.compute), 20)
        release.set()
        return other.body, {answer.body for answer in await asyncio.gather(*waiting)}

    assert asyncio.run(ask_all()) == (b'{"number":1}', {b'{"number":2}'})
