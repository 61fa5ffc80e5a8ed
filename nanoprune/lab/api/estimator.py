"""scikit-learn's conventions for estimators, without scikit-learn: parameters by name, tags, what is not fitted yet."""

from __future__ import annotations

import inspect
import warnings
from typing import Any, Self

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.inputs import sklearn_class
from nanoprune.lab.storage.text import printable


class Estimator:
    """What is set is a parameter of `__init__` and an attribute of the same name; what `fit` finds ends in "_"."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """The parameters of `__init__` with their defaults, by name."""
        return {p.name: p.default for p in inspect.signature(cls).parameters.values()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name. deep: is there for scikit-learn; no parameter has parameters of its own."""
        return {name: getattr(self, name) for name in sorted(self._defaults())}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; what was fitted stays as it is. Raises ArgumentError on a name that there is not."""
        known = sorted(self._defaults())
        for name in params:
            if name not in known:
                raise ArgumentError(
                    f"Invalid parameter {name!r} for estimator {self!r}. Valid parameters are: {known!r}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = self._defaults()
        changed = {name: value for name, value in self.get_params().items() if repr(value) != repr(defaults[name])}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator; it is imported here alone, since only it asks."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(),
        )


class NotFitted(ArgumentError, AttributeError):
    """What `fit` finds is asked for before it."""


def not_fitted(estimator: Estimator) -> Exception:
    """The error of an estimator that is not fitted, scikit-learn's NotFittedError too where that is in use."""
    kind = sklearn_class("exceptions", "NotFittedError", NotFitted)
    return kind(f"This {type(estimator).__name__} instance is not fitted yet; call fit with records first")


def check_names(estimator: Estimator, known: np.ndarray | None, names: np.ndarray | None) -> None:
    """scikit-learn's check of the names of columns, in its words: those of `fit`, and those now; None without names.

    Raises ArgumentError where they differ, warns where one has names and the other has none.
    """
    name = type(estimator).__name__
    if known is None and names is not None:
        warnings.warn(f"X has feature names, but {name} was fitted without feature names", stacklevel=6)
    elif known is not None and names is None:
        message = f"X does not have valid feature names, but {name} was fitted with feature names"
        warnings.warn(message, stacklevel=6)
    elif known is not None and names is not None and list(known) != list(names):
        raise ArgumentError(names_differ(list(known), list(names)))


def names_differ(known: list[str], names: list[str]) -> str:
    """What scikit-learn says where the columns of X are not those of `fit`."""
    text = "The feature names should match those that were passed during fit.\n"
    unseen, missing = sorted(set(names) - set(known)), sorted(set(known) - set(names))
    for problem, those in (("unseen at fit time", unseen), ("seen at fit time, yet now missing", missing)):
        if those:
            text += f"Feature names {problem}:\n" + "".join(f"- {printable(name)}\n" for name in those[:5])
    return text if unseen or missing else text + "Feature names must be in the same order as they were in fit.\n"
