"""safetensors: the weights with PyTorch's names and layout; `import` reads exactly the bits that were written.

vgg16, mobilenetv2 and resnet18 have torchvision's names. Other networks have plain ones: conv1, conv2, ...,
dense1, dense2, ..., as tables and options call them, and norm1, ... for normalisations.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from nanoprune.backend import to_host
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.models.imported import imported
from nanoprune.lab.models.model import Model
from nanoprune.lab.models.state_dict import MISSING, network_from, open_state_dict
from nanoprune.lab.models.torchvision import names_of, tensors
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.zoo import checked, layers_of
from nanoprune.nn import Network


def state_dict(net: Network) -> dict[str, np.ndarray]:
    """The weights of replica 0 by name, float32 in PyTorch's layout.

    The layout is the inverse of the conversion in `import`, found by converting an array of indices: one table has the
    rules.
    """
    found = {}
    for name, theirs, target, convert in tensors(net.body, net.description):
        ours = to_host(target.value)[0].ravel()
        places = convert(np.arange(ours.size).reshape(theirs)).ravel()  # ours[i] is theirs.flat[places[i]]
        tensor = np.empty(ours.size, np.float32)
        tensor[places] = ours
        found[name] = tensor.reshape(theirs)
    return found


def to_safetensors(net: Network, about: dict[str, Any]) -> bytes:
    """The file's bytes; the metadata is `about`. Raises ArgumentError where the package safetensors is missing."""
    try:
        from safetensors.numpy import save
    except ImportError:
        raise ArgumentError(MISSING) from None
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    return save(state_dict(net), metadata={"format": "pt"} | text)


def read_safetensors(path: str | os.PathLike) -> Network:
    """The network of a file that `to_safetensors` wrote: architecture from its metadata, every shape checked.

    Raises DataError, naming the file, where it is damaged, or does not contain its architecture.
    """
    with open_state_dict(path, prefixes=(), remedy="export it again") as state:
        try:
            description = checked(json.loads((state.file.metadata() or {})["architecture"]))
            names = names_of(layers_of(description), description)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:  # ArgumentError too
            reason = first_line(error)
            raise DataError(f"{state.shown}: does not say its architecture ({reason}); name its --network") from error
        return network_from(state, description, names, "export it again")


def import_exported(
    path: str | os.PathLike, dataset: Dataset | None = None, training: dict[str, Any] | None = None
) -> Model:
    """The model of a file that `to_safetensors` wrote. dataset, training and errors as in `imported`."""
    return imported(read_safetensors(path), path, dataset, training)


def check_bitwise(data: bytes, net: Network) -> None:
    """Raises DataError where the bytes do not hold the weights of replica 0 of `net`, bit for bit."""
    from safetensors.numpy import load

    stored = load(data)
    for name, _, target, convert in tensors(net.body, net.description):
        if convert(stored[name]).tobytes() != to_host(target.value)[0].astype(np.float32).tobytes():
            raise DataError(f"the exported {name} differs from the network's; nothing was written")
