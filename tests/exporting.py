"""Networks and model files for the tests of exports."""

import re
import subprocess

import numpy as np

from nanoprune import nn
from nanoprune.lab import layers
from nanoprune.lab.models.model import Model
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Network

# Each in a width that a test can afford, at 32 x 32.
ZOO = {
    "mlp": ((32, 3, 32), (48, 24)),
    "lenet-300-100": ((32, 1, 32), None),
    "lenet-5": ((32, 3, 32), None),
    "vgg16": ((32, 3, 32), 0.125),
    "mobilenetv2": ((32, 3, 32), 0.25),
    "resnet18": ((32, 3, 32), 0.125),
}

# What a laboratory file has and an export must not have. Values that occur nowhere else.
SECRETS = {
    "dataset": "members-of-the-clinic",
    "data_sha256": "c0ffee5ec4e7c0ffee5ec4e7c0ffee5ec4e7c0ffee5ec4e7c0ffee5ec4e7abcd",
    "members": 731951,
    "reference": 624847,
    "nonmembers": 518387,
    "seed": 918273645,
}


def randomised(net: Network, seed: int = 0, keep: float = 1.0) -> Network:
    """Random weights, biases, scales and running statistics; a share `keep` of the weights is nonzero."""
    rng = np.random.default_rng(seed)
    net.initialise([rng])
    for parameter in net.biases:
        parameter.value[...] += rng.normal(0, 0.2, parameter.value.shape)
    for statistic in net.statistics:
        positive = statistic.name == "var"
        statistic.value[...] = (
            rng.uniform(0.5, 1.5, statistic.shape) if positive else rng.normal(0, 0.3, statistic.shape)
        )
    net.W[:] *= rng.random(net.W.shape) < keep
    return net


def network(name: str, dtype: str = "float64", keep: float = 1.0, shape=None) -> Network:
    usual, size = ZOO[name]
    return randomised(build(describe(name, shape or usual, 7, size), dtype=dtype), keep=keep)


def every_layer() -> Network:
    """All layers that the networks of the zoo do not have, or only in other positions."""
    body = nn.Sequential(
        layers.Standardise([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]),
        nn.Conv2D(3, 8, 3, stride=2, padding=1),
        layers.GroupNorm(4, 8),
        layers.Tanh(),
        layers.AvgPool(2),
        layers.Residual(
            nn.Sequential(layers.BatchNorm(8), nn.ReLU(), layers.Pointwise(8, 8))
        ),  # BatchNorm that cannot be folded
        layers.DepthwiseConv2D(8, 5, stride=3, padding=2),
        layers.ReLU6(),
        nn.Conv2D(8, 6, 3, stride=3, padding=1, bias=False),
        nn.MaxPool(2, stride=1, padding=1),
        nn.Flatten(),
        layers.Dropout(0.3),
        layers.BatchNorm(6 * 2 * 2),
        nn.ReLU(),
        layers.Residual(nn.Dense(24, 24)),
        layers.GroupNorm(6, 24),
        nn.Branches((4, nn.Sequential(nn.Dense(4, 5), layers.Tanh())), (20, nn.Dense(20, 3))),
        nn.Dense(8, 7),
    )
    return randomised(Network(body, (33, 3, 34), dtype="float64"))


def flat_group_norm() -> Network:
    """Features whose order matters after Flatten: groups of neighbouring features, without a dense layer to permute."""
    body = nn.Sequential(nn.MaxPool(2), nn.Flatten(), layers.GroupNorm(3, 12), layers.Tanh())
    return randomised(Network(body, (4, 3, 5), dtype="float64"))


def flat_output() -> Network:
    body = nn.Sequential(nn.Conv2D(2, 3, 2), nn.Flatten(), layers.Tanh())
    return randomised(Network(body, (4, 2, 3), dtype="float64"))


OTHERS = {"every layer": every_layer, "GroupNorm of features": flat_group_norm, "no dense layer": flat_output}


def model_of(net: Network, **changes) -> Model:
    step = {"step": "train", "folder": "/home/nurse/clinic", "host": "clinic-db-7", "seed": SECRETS["seed"]}
    return Model(net, **(SECRETS | {"steps": [step]} | changes))


def secrets_in(data: bytes) -> list[str]:
    """The laboratory's secrets that some bytes contain: as text, with thousands separators, or as binary integers.

    A number counts only as a separate number, not as some digits of a weight.
    """
    numbers = [value for value in SECRETS.values() if isinstance(value, int)]
    words = [value for value in SECRETS.values() if isinstance(value, str)] + ["clinic", "nurse", "/home", "sha256"]
    found = [word for word in words if word.encode() in data or word.encode("utf-16-le") in data]
    text = data.decode("latin-1")
    found += [word for n in numbers for word in (f"{n}", f"{n:,}") if re.search(rf"(?<![\d.]){word}(?!\d)", text)]
    found += [f"{n} as an integer" for n in numbers for end in ("little", "big") if n.to_bytes(4, end) in data]
    return found + re.findall(r"[0-9a-f]{32,}", text)  # a digest of anything


def compiler() -> str | None:
    """The C compiler, or None."""
    import shutil

    return shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")


def run(command: list, **options) -> str:
    """The standard output of a program that must succeed."""
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, **options).stdout


MAIN = """
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "net.h"
int main(void) {
    float *x = malloc(4 * NET_INPUTS), *y = malloc(4 * NET_OUTPUTS), *work = malloc(4 * NET_WORK);
    for (int i = 0; i < NET_WORK; i++) work[i] = NAN; /* of any content */
    while (fread(x, 4, NET_INPUTS, stdin) == NET_INPUTS) {
        net_predict(x, y, work);
        if (fwrite(y, 4, NET_OUTPUTS, stdout) != NET_OUTPUTS) return 1;
    }
    free(x), free(y), free(work);
    return 0;
}
"""


def run_c(source: str, header: str, folder, x: np.ndarray, *flags: str) -> np.ndarray:
    """Logits (N, classes) of the emitted C, compiled as strict C99, with buffers of exactly the required sizes."""
    for name, text in (("net.c", source), ("net.h", header), ("main.c", MAIN)):
        (folder / name).write_text(text)
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    run([compiler(), *strict, *flags, "-o", folder / "net", folder / "net.c", folder / "main.c", "-lm"])
    done = subprocess.run([folder / "net"], input=np.ascontiguousarray(x).tobytes(), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return np.frombuffer(done.stdout, np.float32).reshape(len(x), -1)


def state_dict_of(net: Network) -> dict[str, np.ndarray]:
    """The weights of a LeNet-5 in PyTorch's layout, by loops: kernels (O, C, kh, kw), images flattened (C, H, W)."""
    found, shape = {}, net.input_shape
    conv = dense = 0
    for layer in net.body.parts:
        if isinstance(layer, nn.Conv2D):
            conv, k = conv + 1, layer.size
            W = layer.W.value[0].reshape(layer.kernels, k, layer.channels, k)
            found[f"conv{conv}.weight"] = np.stack([W[:, :, c] for c in range(layer.channels)], axis=1)
            found[f"conv{conv}.bias"] = layer.b.value[0, :, 0].copy()
        elif isinstance(layer, nn.Flatten):
            image = shape
        elif isinstance(layer, nn.Dense):
            dense += 1
            W = layer.W.value[0]
            if dense == 1:
                H, C, width = image
                order = [h * C * width + c * width + w for c in range(C) for h in range(H) for w in range(width)]
                W = W[:, order]
            found[f"dense{dense}.weight"], found[f"dense{dense}.bias"] = W.copy(), layer.b.value[0, :, 0].copy()
        shape = layer.output_shape(shape)
    return {name: np.ascontiguousarray(of, np.float32) for name, of in found.items()}
