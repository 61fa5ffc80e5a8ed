"""`train` as the laboratory calls it, with everything that `LabRun` takes as keyword arguments."""

import functools

from nanoprune.lab.engine.run import LabRun
from nanoprune.train import train as core_train


def train(net, records, members, plan, generators, game=None, admm=None, mask=None, private=None, **options):
    """options: `group`, `name`, `on_epoch`, `stop_after`, `begin`. private: a `DPSGD`."""
    run = functools.partial(LabRun, estimate=private, **options)
    return core_train(net, records, members, plan, generators, game, admm, mask, run)
