"""One queue for the training of several methods: replies reach who asked, and no result depends on it."""

import contextlib
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.lab.data import load
from nanoprune.lab.engine.queue import Queue
from nanoprune.lab.experiment import experiment as experiment_module
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import train_methods
from nanoprune.lab.experiment.recipes import recipe_for

PROGRAMS = st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def tripled(requests):
    return [3 * request for request in requests]


def performed(program, queue):
    """A number asks for its triple, a list runs its parts at the same time."""
    if isinstance(program, int):
        return queue.ask(program)
    return queue.run([lambda part=part: performed(part, queue) for part in program])


def expected(program):
    return 3 * program if isinstance(program, int) else [expected(part) for part in program]


@given(PROGRAMS)
def test_each_function_gets_the_replies_to_its_own_requests(program):
    assert performed(program, Queue(tripled)) == expected(program)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_the_requests_of_all_functions_that_wait_are_answered_at_once(counts):
    asked = []

    def answer(requests):
        asked.append(len(requests))
        return requests

    queue = Queue(answer)
    queue.run([lambda n=n: [queue.ask(i) for i in range(n)] for n in counts])
    assert asked == [sum(n > i for n in counts) for i in range(max(counts))]


def test_functions_that_run_others_share_one_answer_with_the_rest():
    asked = []
    queue = Queue(lambda requests: asked.append(sorted(requests)) or requests)
    queue.run([lambda: queue.run([lambda: queue.ask(1), lambda: queue.ask(2)]), lambda: queue.ask(3)])
    assert asked == [[1, 2, 3]]


@pytest.mark.parametrize("fails", ["first", "last", "answer"])
def test_the_first_error_is_raised_and_no_thread_stays_behind(fails):
    before, ended = threading.active_count(), []

    def answer(requests):
        if fails == "answer":
            raise ValueError("answer")
        return requests

    def waits():
        try:
            queue.ask(1)
            queue.ask(2)
        finally:
            ended.append("waits")

    def broken():
        if fails == "last":
            queue.ask(1)
        raise ValueError(fails)

    queue = Queue(answer)
    with pytest.raises(ValueError, match=fails):
        queue.run([waits] if fails == "answer" else [waits, broken])
    assert ended == ["waits"]
    assert threading.active_count() == before


def test_a_function_that_asks_on_after_an_error_is_ended_too():
    def stubborn():
        for _ in range(3):
            with contextlib.suppress(BaseException):
                queue.ask(1)

    def broken():
        raise ValueError("broken")

    queue, before = Queue(tripled), threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        queue.run([stubborn, broken])
    assert threading.active_count() == before


def test_functions_see_the_error_handling_of_numpy_of_their_caller():
    queue = Queue(tripled)
    with np.errstate(divide="raise"):
        assert queue.run([lambda: np.geterr()["divide"]]) == ["raise"]


class Stages(Progress):
    def __init__(self):
        self.named = []

    def start(self, stage, total):
        self.named.append((stage, total))


def test_methods_that_do_not_need_each_other_are_trained_in_one_queue_to_the_same_bits(monkeypatch):
    data = load("digits")
    recipe = recipe_for(data, 60, minmax=0.5)
    names = "early-stop,small-dense,minmax,prune-0.1,magnitude-0.1"
    stages = Stages()
    trained = train_methods(Experiment(data, recipe, [0, 1, 2], 2, stages), names)
    epochs = [recipe.dense.epochs, recipe.dense.epochs, recipe.pruning_epochs, recipe.pruning_epochs]
    assert [stage for stage, _ in stages.named] == [
        "train baseline, minmax",
        "train prune, magnitude",
        "train early-stop, small-dense",
    ]
    assert [total for _, total in stages.named[:2]] == [3 * sum(epochs[:2]), 3 * sum(epochs[2:])]
    monkeypatch.setattr(experiment_module.Queue, "run", lambda self, calls: [call() for call in calls])
    for name, alone in train_methods(Experiment(data, recipe, [0, 1, 2], 2), names).items():
        np.testing.assert_array_equal(trained[name].net.theta, alone.net.theta)
        assert trained[name].curves.keys() == alone.curves.keys()
        for curve, values in alone.curves.items():
            np.testing.assert_array_equal(trained[name].curves[curve], values)
