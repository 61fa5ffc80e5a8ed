"""Functions registered by the type of a layer: each layer is registered or refused by name (tests/test_registry.py)."""

from collections.abc import Callable
from typing import Any

from nanoprune.errors import ArgumentError


def refuse(reason: str) -> Callable[..., Any]:
    """A function to register for a layer that is not supported: it raises ArgumentError, "LAYER reason"."""

    def refusal(layer: Any, *arguments: Any) -> Any:
        raise ArgumentError(f"{layer!r} {reason}")

    refusal.reason = reason
    return refusal


def check_registered(function: Any, layer: Any) -> None:
    """Raises ArgumentError where the singledispatch `function` is refused for the layer, or not registered."""
    found = function.dispatch(type(layer))
    if found is function.dispatch(object):
        raise ArgumentError(f"{layer!r} is not registered with {function.__name__}, see {function.__module__}")
    if hasattr(found, "reason"):
        found(layer)
