"""scikit-learn's conventions for estimators, without scikit-learn: parameters by name, tags, what is not fitted yet."""

from __future__ import annotations

import inspect
from typing import Any, Self

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.inputs import sklearn_class


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
