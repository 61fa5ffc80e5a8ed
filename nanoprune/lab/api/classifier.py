"""A classifier with scikit-learn's conventions: trained, pruned, audited, kept in a file."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.special import softmax

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.arguments import expect
from nanoprune.lab.api.audits import audit as audit_arrays
from nanoprune.lab.api.audits import of_rows
from nanoprune.lab.api.data import Dataset, from_names
from nanoprune.lab.api.estimator import Estimator, check_names, not_fitted
from nanoprune.lab.api.fitted import Fitted, all_members, drawn, seed_of
from nanoprune.lab.api.inputs import classes_of, feature_names, features, labels, places_of
from nanoprune.lab.api.progress import progress_for, threads_for
from nanoprune.lab.api.results import Audit, check_free
from nanoprune.lab.api.settings import ratio_of, recipe_of
from nanoprune.lab.audit import attack_model
from nanoprune.lab.audit.audit import DELTA
from nanoprune.lab.audit.verdict import PRIOR
from nanoprune.lab.data import Dataset as Records
from nanoprune.lab.data import Split, make_split
from nanoprune.lab.experiment.recipes import Keep, Recipe
from nanoprune.lab.models.model import Model, check_records, load_model, save_model
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo.build import NETWORKS, size_of

TARGETS = {".onnx": "onnx", ".c": "c", ".safetensors": "safetensors", ".html": "web", ".py": "torch-code"}


class Classifier(Estimator):
    """A neural network that is trained, pruned as a defence against membership inference, and audited.

    What is None comes from the recipe of the data set, or by its shape and size (`recipe_`).

    network: "mlp", "lenet-5", "resnet18", ... (`nanoprune info` lists them). widths: of the hidden layers, or a width
    multiplier. epochs, lr: passes over the members and learning rate of the dense training. minmax: lambda of the
    Min-Max game, 0 for none; it is played in training, or where `keep` is given while pruning. keep: share of the
    weights to keep, one number or one a layer: `fit` prunes after training, as `prune` does. scheme: pruning
    granularity, such as "filter" or "2:4". members: how many records of a data set to train on, or "all" for its
    official training set. recipe: for every other setting, a `recipe_` with changes, or a file of `--save-recipe`.
    random_state: of the split, the initial weights and the order of the batches. n_jobs: processes at most, None for 1,
    -1 for one a processor. verbose: show progress; None in notebooks alone.

    After `fit`: classes_ (classes,), the labels; n_features_in_; feature_names_in_ where X was a DataFrame; recipe_;
    model_, as a model file holds it; split_.
    """

    classes_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        network: str | None = None,
        *,
        widths: Sequence[int] | float | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        minmax: float = 0.0,
        keep: Keep | None = None,
        scheme: str | None = None,
        members: int | str | None = None,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        random_state: Any = 0,
        n_jobs: int | None = None,
        verbose: bool | None = None,
    ) -> None:
        self.network = network
        self.widths = widths
        self.epochs = epochs
        self.lr = lr
        self.minmax = minmax
        self.keep = keep
        self.scheme = scheme
        self.members = members
        self.recipe = recipe
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, reference: tuple[Any, Any] | None = None) -> Self:
        """Train, and prune where `keep` is given. Returns self.

        X: a data set of `load` or `Dataset`, from which random_state draws members, reference set and non-members; or
        records (N, F), or images, as `Dataset` takes them, which all are members, with labels y (N,) of any type.
        reference: (X, y), records that are no members, for the Min-Max game where the others all are. Raises
        ArgumentError on what cannot be used, DivergenceError where a loss stops being finite.
        """
        seed, threads = seed_of(self.random_state), threads_for(self.n_jobs)
        data, split = self._given(X, y, reference, seed)
        recipe = recipe_of(self, data, split)
        keep = ratio_of(self)
        with progress_for(self.verbose) as progress:
            dense = recipe if keep is None else dataclasses.replace(recipe, minmax=0.0)
            model = train_model(data, dense, seed, threads, progress, split=split)
            if keep is not None:
                model = prune_model(model, data, recipe, keep, threads, progress, split=split)
        return self._set(Fitted(model, data, split), recipe, data.labels, feature_names(X))

    def prune(
        self,
        keep: Keep | None = None,
        *,
        minmax: float = 0.0,
        scheme: str | None = None,
        recipe: Recipe | str | os.PathLike[str] | None = None,
    ) -> Self:
        """A pruned copy, by MIA-Pruning: ADMM, hard prune, masked retraining on the same members.

        keep: share of the weights to keep, or one a layer; N:M schemes bring theirs. minmax, scheme: as in
        `Classifier`. recipe: `recipe_` with changes. `fit` of a clone of the copy trains and prunes anew. Raises
        ArgumentError where the records are not at hand, on values that cannot be used, and where pruned weights would
        come back.
        """
        fitted = self._fitted
        data, split = fitted.records("prune")
        changes = {"keep": keep, "minmax": minmax, "scheme": scheme, "recipe": recipe or self.recipe}
        small = type(self)(**self.get_params() | changes)
        ratio, threads = ratio_of(small), threads_for(self.n_jobs)
        if ratio is None:
            raise ArgumentError("keep is missing: give the share of the weights to keep, such as 0.05, or a scheme N:M")
        recipe = recipe_of(small, data, split)
        with progress_for(self.verbose) as progress:
            model = prune_model(fitted.model, data, recipe, ratio, threads, progress, split=split)
        names = getattr(self, "feature_names_in_", None)
        return small._set(Fitted(model, data, split), recipe, self.classes_, names)

    def predict(self, X: Any) -> np.ndarray:
        """The predicted labels (n,) of records X (n, F), or images as in `fit`."""
        places = self.logits(X).argmax(axis=1)
        return self.classes_[places]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities (n, classes) float64 of the classes, in the order of `classes_`."""
        return softmax(self.logits(X), axis=1)

    def logits(self, X: Any) -> np.ndarray:
        """What the network puts out, (n, classes) float64, before the softmax."""
        return self._fitted.logits(self._records(X))

    def score(self, X: Any = None, y: Any = None) -> float:
        """The share of records X (n, F) whose label y (n,) is predicted; without X of the split's non-members."""
        x, places = self.held_out("score") if X is None else self._labelled(X, y)
        return float((self._fitted.logits(x).argmax(axis=1) == places).mean())

    def held_out(self, action: str = "held_out") -> tuple[np.ndarray, np.ndarray]:
        """The split's non-members, in no training: records (n, F) or (n, H, C, W), and places of their labels (n,)."""
        data, split = self._fitted.records(action)
        if not len(split.nonmembers):
            raise ArgumentError(f"{action} needs records that are no members, since fit took all as such; give X and y")
        return data.x[split.nonmembers], data.y[split.nonmembers]

    def records(self, X: Any = None, y: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `audit` scores: records x (n, F) or (n, H, C, W), places of their labels in `classes_` (n,), and whether
        each is a member (n,). The members come first; X, y: as in `audit`."""
        data, split = self._fitted.records("audit")
        others, theirs = self.held_out("audit") if X is None else self._labelled(X, y)
        x = np.concatenate([data.x[split.members], others])
        member = np.arange(len(x)) < len(split.members)
        return x, np.concatenate([data.y[split.members], theirs]), member

    def audit(
        self,
        X: Any = None,
        y: Any = None,
        *,
        shadows: int = 0,
        quick: bool = False,
        alpha: float = 0.05,
        prior: float = PRIOR,
        seed: int = 0,
        split: str | None = None,
        delta: float = DELTA,
    ) -> Audit:
        """Attack the model: what do its predictions say of who was in its training data?

        X, y: records (n, F) that it was not trained on, with their labels; by default the split's non-members. shadows:
        an even number of at least 6 shadow models, trained as it was, which make the attacks stronger and take about as
        many times as long as the training; 0 for attacks on the predictions alone. split: "random" where chance drew
        the members, which bounds on epsilon need, else "fixed"; by default what is known of it. The others: as in
        `nanoprune.audit`.
        """
        fitted = self._fitted
        if expect("shadows", shadows, "an integer"):
            data, _ = fitted.records("audit")
            if X is not None or fitted.given:
                raise ArgumentError("shadows need a data set from which fit draws the members; fit(Dataset(X, y))")
            threads = threads_for(self.n_jobs)
            with progress_for(self.verbose) as progress:
                found = attack_model(fitted.model, data, shadows, alpha, threads, progress, prior=prior)
            return Audit(*found)
        x, places, member = self.records(X, y)
        chance = X is None and not fitted.given and fitted.model.members is not None
        split = split or ("random" if chance else "fixed")
        settings: dict[str, Any] = {"quick": quick, "alpha": alpha, "prior": prior, "seed": seed, "delta": delta}
        settings |= {"n_jobs": self.n_jobs, "verbose": self.verbose}
        group = self._groups(X, len(x))
        done = audit_arrays(fitted.logits(x), places, member, group=group, split=split, **settings)
        return of_rows(done, fitted.records("audit")[1].members, "X" if fitted.given else "data set")

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a model file, as the command line reads it. It names the members of a data set: keep it to yourself.

        Raises ArgumentError where something already exists and not `overwrite`.
        """
        check_free(path, overwrite)
        save_model(self.model_, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: Dataset | None = None) -> Self:
        """The classifier of a model file of `save`, or of the command line.

        data: the data set that it was trained on; `audit` and `prune` need it. Raises DataError where the file is
        damaged, or `data` is another data set.
        """
        model = load_model(expect("path", path, "a path"))
        expect("data", data, "a data set", "None")
        step: dict[str, Any] = next((step for step in reversed(model.steps) if step["step"] == "prune"), {})
        description: dict[str, Any] = model.net.description or {}
        params: dict[str, Any] = {name: step[name] for name in ("keep", "scheme", "minmax") if name in step}
        params |= {"scheme": None} if params.get("scheme") == "unstructured" else {}
        members = None if data is None else model.members or "all"
        if description["network"] in NETWORKS:  # another one has its layers in the file, and no name
            params |= {"network": description["network"], "widths": size_of(description)}
        made = cls(**params, members=members, random_state=model.seed)
        names = from_names(model.class_names, model.net.output_shape[0])
        if data is None:
            return made._set(Fitted(model), None, names, None)
        data = Dataset.of_read(data)
        check_records(model, data)
        split = drawn(model, data)
        return made._set(Fitted(model, data, split), recipe_of(made, data, split), data.labels, None)

    def export(
        self,
        path: str | os.PathLike[str],
        to: str | None = None,
        *,
        weights: str = "dense",
        overwrite: bool = False,
    ) -> str:
        """Write the network for others, without a word on its members; returns in words how it was compared with it.

        to: "onnx", "c", "safetensors", "web" or "torch-code"; by default what the suffix of `path` says. weights:
        "dense", "packed" (without zeros) or "int8". Raises ArgumentError on others, or where something already exists
        and not `overwrite`.
        """
        from nanoprune.lab.export import export_model, write_files
        from nanoprune.lab.export.about import about

        path = pathlib.Path(expect("path", path, "a path"))
        expect("to", to, "a text", "None")
        expect("weights", weights, "a text")
        target = to or TARGETS.get(path.suffix.lower())
        if target is None:
            raise ArgumentError(f"path must end with {', '.join(TARGETS)}, got {path.name!r}; or say `to`")
        check_free(path, overwrite)
        metadata = about(self.model_, weights, labels=[str(label) for label in self.classes_])
        files, compared = export_model(self.model_.net, target, weights, metadata, path)
        write_files(files, overwrite)
        return compared

    @property
    def model_(self) -> Model:
        """The model as a model file holds it: network, history, split."""
        return self._fitted.model

    @property
    def split_(self) -> Split | None:
        """Which records are members; None where they are not at hand."""
        return self._fitted.split

    def _set(self, fitted: Fitted, recipe: Recipe | None, names: np.ndarray, columns: np.ndarray | None) -> Self:
        """What `fit` found becomes attributes."""
        self._found, self.recipe_, self.classes_ = fitted, recipe, names
        self.n_features_in_ = int(np.prod(fitted.model.net.input_shape))
        self.__dict__.pop("feature_names_in_", None)
        if columns is not None:
            self.feature_names_in_ = columns
        return self

    @property
    def _fitted(self) -> Fitted:
        found = self.__dict__.get("_found")
        if found is None:
            raise not_fitted(self)
        return found

    def _given(self, X: Any, y: Any, reference: tuple[Any, Any] | None, seed: int) -> tuple[Dataset, Split]:
        """The records that `fit` got as a data set, and which of them are members."""
        if not isinstance(X, Records):
            return self._arrays(X, y, reference)
        if y is not None or reference is not None:
            raise ArgumentError("y and reference are in the data set; leave them out, or give arrays")
        data = Dataset.of_read(X)
        recipe = recipe_of(self, data)
        return data, make_split(data, recipe.members, recipe.reference, recipe.nonmembers, seed)

    def _arrays(self, X: Any, y: Any, reference: tuple[Any, Any] | None) -> tuple[Dataset, Split]:
        """Records that are all members, and a reference set after them, as a data set."""
        records = features(X)
        distinct, places = classes_of(labels(y, len(records)))
        if self.members is not None:
            raise ArgumentError(f"members is for data sets: every record of X is a member, got {self.members!r}")
        count = len(records)
        if reference is not None:
            others, theirs = expect("reference", reference, "a pair (X, y)")
            others = features(others, "reference X")
            places = np.concatenate([places, places_of(labels(theirs, len(others), "reference y"), distinct)])
            records = np.concatenate([records, others])
        data = Dataset.of_places(records, distinct, places, feature_names(X))
        return data, all_members(count, len(records) - count)

    def _groups(self, X: Any, count: int) -> np.ndarray | None:
        """The groups of the `count` records that `audit` scores, where the data set has groups. Those of other records
        X are of their data set; without one each is its own."""
        data, split = self._fitted.records("audit")
        if data.groups is None:
            return None
        of_members = data.groups[split.members]
        if X is None:
            return np.concatenate([of_members, data.groups[split.nonmembers]])
        theirs = getattr(X, "groups", None) if isinstance(X, Records) else None
        theirs = np.arange(count - len(of_members)) if theirs is None else theirs
        return np.concatenate([of_members, data.groups.max() + 1 + theirs])

    def _labelled(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Records (n, *input_shape) and the places of their labels (n,), of a data set or of arrays."""
        if isinstance(X, Records) and y is None:
            data = Dataset.of_read(X)
            X, y = data.x[np.arange(len(data.y))], data.labels[data.y]
        x = self._records(X)
        return x, places_of(labels(y, len(x)), self.classes_)

    def _records(self, X: Any) -> np.ndarray:
        """Records to predict, (n, *input_shape). Raises ArgumentError where they are not like those of `fit`."""
        shape = self._fitted.model.net.input_shape
        check_names(self, getattr(self, "feature_names_in_", None), feature_names(X))
        x = features(X, missing=self._fitted.takes_missing)
        if x.shape[1:] != shape:
            found, expected = (math.prod(of) for of in (x.shape[1:], shape))
            what = f"{found} features" if x.ndim == 2 else f"shape {x.shape[1:]}"
            wanted = f"{expected} features" if len(shape) == 1 else f"images {shape}"
            raise ArgumentError(f"X has {what}, but {type(self).__name__} is expecting {wanted} as input")
        return x
