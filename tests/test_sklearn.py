"""The classifier with scikit-learn's tools: its own checks of estimators, pipelines, search, clones."""

import functools
import warnings

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import nanoprune as npr

SMALL = {"network": "mlp", "widths": (24,), "epochs": 20, "lr": 0.02}


with warnings.catch_warnings():  # the base class is scikit-learn's, which is not needed
    warnings.filterwarnings("ignore", "Estimator Classifier does not inherit")
    CHECKS = list(estimator_checks_generator(npr.Classifier(**SMALL)))


def name_of(value: object) -> str:
    return value.func.__name__ if isinstance(value, functools.partial) else ""


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=name_of)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_there_are_checks_enough_to_mean_something():
    assert len(CHECKS) > 40


def blobs(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Three classes far apart, at any scale."""
    y = np.arange(count) % 3
    return 100 * np.eye(4)[y] + np.random.default_rng(0).normal(size=(count, 4)), np.array(["a", "b", "c"])[y]


def test_a_pipeline_and_a_search_over_keep_ratios():
    X, y = blobs()
    pipeline = make_pipeline(MinMaxScaler(), npr.Classifier(**SMALL))
    assert cross_val_score(pipeline, X, y, cv=3).min() > 0.9
    search = GridSearchCV(npr.Classifier(**SMALL), {"keep": [None, 0.5]}, cv=2).fit(X, y)
    assert set(search.cv_results_["param_keep"]) == {None, 0.5}
    assert (search.predict(X) == y).mean() > 0.9
    weights = clone(search.best_estimator_).set_params(keep=0.5).fit(X, y).model_.net.W[0]
    assert (weights != 0).sum() <= 0.5 * weights.size


def test_a_clone_has_the_parameters_and_nothing_that_was_fitted():
    X, y = blobs()
    model = npr.Classifier(**SMALL, keep=(0.5, 0.25)).fit(X, y)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]
    assert is_classifier(copy)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        copy.predict(X)
