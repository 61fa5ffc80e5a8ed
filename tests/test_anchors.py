"""Orders that others published hold on real data."""

import pytest

from benchmarks.anchors import LOSS, anchors, orders
from nanoprune.lab.data import load


def test_the_orders_of_carlini_et_al_hold_on_digits():
    """16 shadow models. A pooled variance beats one for each record, and LiRA finds ten times as many members as one
    threshold at an FPR of 0.1%."""
    found = anchors(load("digits"), 400)
    assert all(orders(found).values()), found
    assert found["lira_online"]["auc"] > found["lira_offline"]["auc"]  # online beats offline
    assert found[LOSS]["0.001"] == pytest.approx(0.001, abs=0.002)  # one threshold is at chance there
