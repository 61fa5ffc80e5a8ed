"""The result of `fit`: a model, and the records that it was trained on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError
from nanoprune.lab.data import Dataset, Split, make_split
from nanoprune.lab.engine.evaluation import predict_shard
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.models.model import Model
from nanoprune.lab.zoo import build
from nanoprune.nn import Network
from nanoprune.records import Records


@dataclasses.dataclass
class Fitted:
    """A model with its records, and which of them are members; both None where they are not at hand.

    A pickle of it has no records: a model that is handed on does not take its training data along.
    """

    model: Model
    data: Dataset | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        self.network = in_float64(self.model.net)

    @property
    def given(self) -> bool:
        """Whether all records that `fit` got are members; else its seed drew them."""
        return self.model.nonmembers == 0

    @property
    def takes_missing(self) -> bool:
        """Whether a number may be NaN, which stands for no value: in a table that has such."""
        return any(column.get("missing", False) for column in (self.model.table or {}).get("columns", ()))

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (n, classes) float64 of records x (n, *input_shape).

        Computed in float64, so that those of a record do not depend on which others are beside it.
        """
        records = Records(x.astype(np.float64), np.zeros(len(x), np.int64))
        with single_threaded_blas():
            return predict_shard(self.network, records, np.arange(len(x))[None])[0]

    def records(self, action: str) -> tuple[Dataset, Split]:
        """The records and the split. Raises ArgumentError, naming the `action` that needs them, where they are gone."""
        if self.data is None or self.split is None:
            raise ArgumentError(
                f"{action} needs the records that the model was trained on, which no pickle or model file holds; "
                "give them: Classifier.load(path, data)"
            )
        return self.data, self.split

    def __getstate__(self) -> dict[str, Any]:
        about = {f.name: getattr(self.model, f.name) for f in dataclasses.fields(Model) if f.name != "net"}
        net = self.model.net
        arrays = {name: to_host(getattr(net, name)) for name in ("theta", "state")}
        return {"about": about, "network": net.description} | arrays

    def __setstate__(self, saved: dict[str, Any]) -> None:
        net = build(saved["network"])
        for name in ("theta", "state"):
            getattr(net, name)[...] = to_device(saved[name])
        self.model, self.data, self.split = Model(net, **saved["about"]), None, None
        self.__post_init__()


def in_float64(net: Network) -> Network:
    """A copy of a network in float64."""
    made = build(net.description or {}, dtype="float64")
    made.theta[...], made.state[...] = net.theta, net.state
    return made


def all_members(members: int, reference: int) -> Split:
    """The split of records of which the first are all members, the others the reference set."""
    none = np.empty(0, np.int64)
    rows = np.arange(members)
    return Split(rows, np.arange(members, members + reference), none, none, none, rows, none)


def drawn(model: Model, data: Dataset) -> Split:
    """The split that a model file names: its seed draws it again, or all records are members."""
    if model.nonmembers == 0 and model.members is not None:
        return all_members(model.members, model.reference)
    return make_split(data, model.members, model.reference, model.nonmembers, model.seed)


def seed_of(random_state: Any) -> int:
    """A seed from scikit-learn's random_state: a number, a generator that draws one, or None for a new one."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, bool) or not isinstance(random_state, (int, np.integer)) or random_state < 0:
        raise ArgumentError(f"random_state must be an integer of at least 0, a generator or None, got {random_state!r}")
    return int(random_state)
