"""What the chapters of the book share: their data and attack, their methods, and how they show things."""

import html.parser

import numpy as np
import pytest

from nanoprune.attack import scores
from nanoprune.lab.course import show
from nanoprune.lab.course.digits import accuracies, attack, classroom, losses, probabilities
from nanoprune.lab.course.methods import (
    dense_path,
    early_stop,
    interval,
    one_shot,
    points,
    same_schedule,
    verdict,
    with_admm,
)
from nanoprune.prune import project


@pytest.fixture(scope="module")
def room():
    return classroom(replicas=2, members=40, nonmembers=60)


@pytest.fixture(scope="module")
def path(room):
    return dense_path(room, epochs=4, widths=[12])


@pytest.fixture
def page(monkeypatch):
    """What a notebook would have been given, as (kind, text)."""
    shown = []
    monkeypatch.setattr(show, "_in_notebook", lambda: True)
    monkeypatch.setattr(show, "_display", lambda kind, text: shown.append((kind, text)))
    return shown


def test_no_record_is_on_two_sides(room):
    for r in range(2):
        sides = [set(part[r]) for part in (room.members, room.reference, room.nonmembers)]
        assert [len(side) for side in sides] == [40, 40, 60]
        assert len(set.union(*sides)) == 140


def test_losses_and_accuracies_are_those_of_the_probabilities(room, path):
    p, y = probabilities(room, path[-1], room.nonmembers), room.labels[room.nonmembers]
    np.testing.assert_allclose(p.sum(axis=-1), 1)
    for r, i in ((0, 0), (1, 59)):
        assert losses(room, path[-1], room.nonmembers)[r, i] == pytest.approx(-np.log(p[r, i, y[r, i]]), rel=1e-6)
    right = [[row.argmax() == label for row, label in zip(p[r], y[r], strict=True)] for r in range(2)]
    np.testing.assert_allclose(accuracies(room, path[-1], room.nonmembers), np.mean(right, axis=1))


def test_the_attack_is_fitted_on_one_half_and_scored_on_the_other(room, path):
    """Every threshold tried on the first 20 of both sides; that of the best one on the rest."""
    found = attack(room, path[-1], scores.confidence)
    for r in range(2):
        sides = [
            scores.confidence(probabilities(room, path[-1], index)[r], room.labels[index[r]])
            for index in (room.members, room.nonmembers)
        ]
        known, rest = [side[:20] for side in sides], [side[20:] for side in sides]
        tried = sorted({*known[0], *known[1], np.inf}, reverse=True)
        best = max(tried, key=lambda t: np.mean(known[0] >= t) - np.mean(known[1] >= t))
        assert found[r] == pytest.approx((np.mean(rest[0] >= best) + np.mean(rest[1] < best)) / 2)


def test_early_stop_takes_the_first_epoch_that_is_good_enough_in_each_replica(room, path):
    reached = np.array([accuracies(room, net, room.reference) for net in path])  # (epochs, R)
    wanted = np.array([reached[2, 0], 2.0])  # the second is never reached: the last epoch
    net = early_stop(room, path, wanted)
    first = next(epoch for epoch in range(4) if reached[epoch, 0] >= wanted[0])
    np.testing.assert_array_equal(net.theta[0], path[first].theta[0])
    np.testing.assert_array_equal(net.theta[1], path[-1].theta[1])


def test_the_methods_prune_what_they_say(room, path):
    dense = path[-1]
    before = dense.theta.copy()
    kept = [int(0.1 * p.size) for p in dense.weights]
    for net in (with_admm(room, dense, 0.1), one_shot(room, dense, 0.1)):
        assert [[(p.value[r] != 0).sum() for p in net.weights] for r in range(2)] == [kept, kept]
    for p, old, k in zip(net.weights, dense.weights, kept, strict=True):
        for r in range(2):
            np.testing.assert_array_equal(p.value[r].ravel() != 0, project(old.value[r].ravel(), k) != 0)
    assert (same_schedule(room, dense).nonzero() == dense.weight_count).all()
    np.testing.assert_array_equal(dense.theta, before)


def test_an_interval_of_nothing_holds_zero_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2000, 5))
    held = sum(verdict(row) == "no difference detected" for row in draws)
    assert 0.93 < held / 2000 < 0.97
    assert {verdict(row + 9) for row in draws[:50]} == {"more leak"}
    assert {verdict(row - 9) for row in draws[:50]} == {"less leak"}
    assert interval(np.array([1.0, 3.0])) == (2.0, pytest.approx(12.706, abs=1e-3))
    assert points(np.array([0.01, 0.03])) == "2.0 ± 12.7"
    assert points(np.array([-0.0002, -0.00021])) == "0.0 ± 0.0"


def test_equal_changes_in_every_seed_show_nothing():
    change = np.array([0.7, 0.8, 0.9]) - np.array([0.6, 0.7, 0.8])  # equal up to rounding
    assert points(change) == "10.0"
    assert verdict(change) == "the same in every seed: no interval"


def test_source_sentences_and_tables_are_markdown(page, capsys):
    show.source(project)
    show.say("""
        Two lines,
        one paragraph.
    """)
    show.table(["a", "b"], [["x", 1]])
    (_, code), (_, sentence), (_, table) = page
    assert code.startswith("```python\ndef project(W")
    assert "return xp.multiply(W, largest(W, k), out=out)" in code
    assert sentence == "Two lines,\none paragraph."
    assert table == "| a | b |\n| :--- | ---: |\n| x | 1 |"
    assert capsys.readouterr().out == ""


def test_a_figure_is_told_takes_the_pages_colours_and_names_no_host(page):
    drawing, (left, right) = show.axes(2)
    left.plot([1, 2], label="up & down")
    right.hist([1, 2, 2])
    left.legend()
    show.figure(drawing, 'A line from 1 to 2, and "bars" of 1 < 2 heights.')
    ((kind, text),) = page
    assert kind == "HTML"
    assert "http" not in text
    assert "<metadata" not in text
    assert text.count("currentColor") > 10
    assert show.INK not in text
    found = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(text)
    (svg,) = [attributes for tag, attributes in found if tag == "svg"]
    assert svg["aria-label"] == 'A line from 1 to 2, and "bars" of 1 < 2 heights.'
    assert svg["role"] == "img"
    assert any(tag == "text" for tag, _ in found)
