"""A valid file for each reader, generated: small, and the same every time."""

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import pathlib
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np

from nanoprune.lab.audit import cache
from nanoprune.lab.audit.shadows import Shadows
from nanoprune.lab.data import cifar, digits, packed, texas100
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import Model, save_model
from nanoprune.lab.storage.checkpoint import generators_state, write_checkpoint
from nanoprune.lab.tasks.task import canonical, task_of
from nanoprune.lab.zoo import build, describe

Bytes = Callable[[], bytes]
RECORDS = 40  # of a seed


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def idx(*shape: int) -> bytes:
    """An IDX file of unsigned bytes."""
    values = rng().integers(0, 10, shape, np.uint8)
    return b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + values.tobytes()


def tgz(members: dict[str, bytes]) -> bytes:
    """The files as a .tgz archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def lines(heads: Sequence[bytes], bits: int) -> bytes:
    """A line of a head and bits for each head."""
    table = rng().integers(0, 2, (len(heads), bits))
    return b"".join(
        head + b"".join(b",%d" % bit for bit in row) + b"\n" for head, row in zip(heads, table, strict=True)
    )


def bench_cifar(of: cifar.Cifar) -> cifar.Cifar:
    """The data set with two training records a file and two for testing; any labels are those of a known copy."""

    class Anything(dict):
        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: object) -> str:
            return "a copy"

    archive = dataclasses.replace(of.archive, size=1 << 20, sha256=None)
    parts = len(of.files) - 1
    return dataclasses.replace(of, archive=archive, train=2 * parts, test=2, copies=Anything())


def cifar_tgz(of: cifar.Cifar) -> bytes:
    return tgz(
        {f"{of.folder}/{name}": rng().integers(0, 10, size, np.uint8).tobytes() for name, size in of.sizes().items()}
    )


def cifar_records(of: cifar.Cifar, count: int) -> bytes:
    return rng().integers(0, 10, count * (of.labels + cifar.PIXELS), np.uint8).tobytes()


SMALL = {of.archive.dataset: bench_cifar(of) for of in (cifar.CIFAR10, cifar.CIFAR100)}


def hdf5(fill: Callable[[h5py.File], None]) -> bytes:
    """An HDF5 file in memory."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def packed_images(version: int = packed.FORMAT) -> bytes:
    """Twenty images of 4 x 4 pixels, in a file with space for 22; in format 1 without the space, and in chunks."""

    def fill(file: h5py.File) -> None:
        room = 22 if version == packed.FORMAT else 20
        pixels = np.zeros((room, 4, 3, 4), np.uint8)
        pixels[:20] = rng().integers(0, 256, (20, 4, 3, 4), np.uint8)
        chunks = {"chunks": (packed.CHUNK, 4, 3, 4)} if version == packed.CHUNKED else {}
        file.create_dataset("images", data=pixels, **chunks)
        parts = (pixels[: packed.CHUNK], pixels[packed.CHUNK : 20])
        file["chunk_sha256"] = np.stack([np.frombuffer(hashlib.sha256(c.tobytes()).digest(), np.uint8) for c in parts])
        file["labels"] = (np.arange(room) % 3).astype(np.uint16)
        file["classes"] = np.array([b"cat", b"dog", b"owl"])
        file.attrs["format"] = version
        if version == packed.FORMAT:
            file["counts"] = np.array([20, 12])
        else:
            file.attrs["train"] = 12

    return hdf5(fill)


def digits_file() -> bytes:
    return next(place for place in digits.PLACES if place.is_file()).read_bytes()


def jpeg(kind: str = "JPEG") -> bytes:
    """An image, in the format that Pillow calls `kind`."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rng().integers(0, 256, (40, 30, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def packed_part() -> bytes:
    """The file of an interrupted `data pack` of `pack_source`."""

    from nanoprune.lab.data import pack

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == packed.CHUNK:
            raise Enough

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            pack.pack(pack_source(folder), folder / "images.h5", progress=stop)
        except Enough:
            return (folder / "images.h5.part").read_bytes()
    raise AssertionError("the packing was not interrupted")


def pack_source(folder: pathlib.Path) -> Any:
    """A folder of images, small ones all alike."""
    from nanoprune.lab.data import pack

    for label in ("cat", "dog"):
        (folder / "src" / label).mkdir(parents=True, exist_ok=True)
        for i in range(9):
            path = folder / "src" / label / f"{i}.jpeg"
            if not path.exists():
                path.write_bytes(jpeg())
    return pack.find_images(folder / "src")


embedded = functools.cache(digits.load_digits)


def model_file(network: str = "mlp", keep: float = 1.0) -> bytes:
    """A model of few weights, with a history; resnet18 has running statistics too. keep: share that is not zero."""

    shape, size = ((6,), [5, 4]) if network == "mlp" else ((16, 3, 16), 0.02)
    net = build(describe(network, shape, 3, size))
    net.initialise([np.random.default_rng(0)])
    net.W[0, round(keep * net.weight_count) :] = 0
    recipe = recipe_for(embedded(), 20, keep=(0.5,), minmax=0.0)
    steps = [recipe.train_step(0.0), recipe.prune_step(0.5, 0.0)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.h5"
        save_model(Model(net, "digits", "0" * 64, 20, 5, 20, 0, steps), path)
        return path.read_bytes()


IDENTITY = {"seeds": [0], "recipe": {"lr": 0.1}}


def run_file(**changes: Any) -> bytes:
    """A run.json."""
    return json.dumps({"format": 1, "finished": False, "identity": IDENTITY} | changes).encode()


def checkpoint_file() -> bytes:
    """A state with everything that it can have: dense and sparse arrays, nested, generators, plain values."""
    net = np.zeros((2, 300), np.float32)
    net[:, :9] = 1
    state = {"phase": 1, "net": {"theta": net, "state": net[:, :3]}, "parts": {"mask": {"M": net != 0}, "none": {}}}
    state["generators"] = generators_state([np.random.default_rng(seed) for seed in range(2)])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "c.h5"
        write_checkpoint(path, {"run": IDENTITY, "method": "prune", "shard": [0, 2]}, state)
        return path.read_bytes()


def safetensors_file(last: tuple[int, ...] | None = None) -> bytes:
    """A resnet18 of one channel, with torchvision's names. last: the shape of the last layer's weights, if another."""
    from safetensors.numpy import save

    from nanoprune.lab.models.torchvision import tensors
    from nanoprune.lab.zoo import layers_of

    description = describe("resnet18", (16, 3, 16), 3, 0.02)
    found = {n: np.ones(shape, np.float32) for n, shape, *_ in tensors(layers_of(description), description)}
    return save(found if last is None else found | {"fc.weight": np.ones(last, np.float32)})


def sequential() -> Any:
    """A network without a name, with a residual block."""
    layers = [{"layer": "conv", "size": 3}, {"layer": "relu"}, {"layer": "batchnorm"}, {"layer": "flatten"}]
    layers = [
        {"layer": "residual", "body": [{"layer": "conv", "size": 1}], "shortcut": []},
        *layers,
        {"layer": "dense"},
    ]
    return build(describe("sequential", (5, 2, 5), 3, [2, 3], sequence=layers))


def onnx_file(form: str = "dense") -> bytes:
    """A graph with a residual block. form: packed, weights that the file computes as it is loaded."""
    from nanoprune.lab.export.onnx import to_onnx
    from nanoprune.lab.export.packing import program_of

    net = sequential().initialise([np.random.default_rng(0)])
    if form == "packed":
        net = build(describe("mlp", (300,), 3, [20])).initialise([np.random.default_rng(0)])
        net.W[:, 30:] = 0
    return to_onnx(program_of(net, form), {}, form)


def sequential_model() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.h5"
        save_model(Model(sequential(), "unknown", "", None, 0, 0, 0, [{"step": "import", "epochs": 3}]), path)
        return path.read_bytes()


def predictions() -> dict[str, np.ndarray]:
    """A target's and a shadow's, of three classes."""
    found = {}
    for of, draw in (("target", np.random.default_rng(1)), ("shadow", np.random.default_rng(2))):
        p = draw.random((RECORDS, 3)) + 0.1
        found[f"{of}_probs"] = p / p.sum(axis=1, keepdims=True)
        found[f"{of}_labels"] = np.arange(RECORDS) % 3
        found[f"{of}_member"] = np.arange(RECORDS) % 2
        found[f"{of}_group"] = np.array([f"p{i}" for i in range(RECORDS)]).astype("S")
    return found


def predictions_npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **predictions())
    return stream.getvalue()


def predictions_h5() -> bytes:
    def fill(file: h5py.File) -> None:
        for name, values in predictions().items():
            file.create_dataset(name, data=values, compression="gzip" if values.ndim == 2 else None)

    return hdf5(fill)


def predictions_csv() -> bytes:
    arrays = predictions()
    rows = zip(arrays["target_labels"], arrays["target_member"], arrays["target_probs"], strict=True)
    text = "".join(f"{y},{m},p{i},{','.join(f'{v:.6f}' for v in p)}\n" for i, (y, m, p) in enumerate(rows))
    return ("label,member,group,p0,p1,p2\n" + text).encode()


MADE_BY = {"recipe": "of the test"}


def shadows(checkpoints: Any = None) -> Shadows:
    draw = rng()
    inside = np.arange(6 * 8).reshape(6, 8) % 2 == 0
    logits = {stage: draw.normal(size=(6, 8, 3)).astype(np.float32) for stage in ("train", "prune")}
    population = {stage: draw.normal(size=(6, 5, 3)).astype(np.float32) for stage in ("train", "prune")}
    paths, sensitivity = draw.normal(size=(6, 8)), draw.normal(size=(6, 8, 3)).astype(np.float32)
    return Shadows(inside, logits, population, paths, sensitivity)


def shadow_file() -> bytes:

    with tempfile.TemporaryDirectory() as folder:
        cache.cached(folder, MADE_BY, shadows)
        return next(pathlib.Path(folder).iterdir()).read_bytes()


def task_file() -> bytes:
    """The task of two shadow models, in an environment that is no machine's: the same bytes everywhere."""
    steps = [recipe_for(embedded(), 40, network="mlp").train_step(0.0)]
    model = Model(build(describe("mlp", (64,), 10, [8]), replicas=0), "digits", "0" * 64, 40, 10, 40, 0, steps)
    return canonical(task_of(model, 6, slice(0, 2)).content | {"environment": {"numpy": "1.0", "blas": ["x"]}}).encode()


@functools.cache
def results() -> dict[str, Any]:
    """Results of two methods, with curves, as from `reproduce`."""

    def summary(mean: float) -> dict[str, Any]:
        return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "values": [mean - 0.004, mean + 0.004]}

    def method(accuracy: float, weights: int) -> dict[str, Any]:
        attack = {
            "accuracy": summary(accuracy),
            "accuracy_per_class_threshold": None,
            "auc": summary(accuracy),
            "tpr_at_fpr": {"0.01": summary(0.02), "0.001": None},
        }
        return {
            "weights": 400, "nonzero": weights, "compression": 400 / weights, "train_accuracy": summary(0.99),
            "test_accuracy": summary(0.9), "attacks": {"confidence": attack, "entropy": attack},
            "strongest_attack": "confidence", "strongest_attack_accuracy": summary(accuracy),
        }  # fmt: skip

    change = {**summary(-0.05), "p_value": 0.01}
    pruned = method(0.55, 40) | {
        "attack_accuracy_change": change,
        "test_accuracy_change": change,
        "solver": {"status": ["converged", "max_iterations"]},
        "shadow_attacks": {"lira": {"accuracy": summary(0.6), "auc": summary(0.6), "tpr_at_fpr": {"0.01": None}}},
    }
    return {
        "dataset": "digits", "network": "mlp", "device": "cpu", "precision": "float32", "seeds": [0, 1], "threads": 1,
        "seconds": 1.5, "command": "python cli.py reproduce digits", "versions": {"nanoprune": "0.1.0", "numpy": "2"},
        "recipe": {"keep": [0.1], "dense": {"epochs": 3}}, "data_sha256": "0" * 64, "notes": ["a note"],
        "validity": [{"name": "a check", "outcome": "passed", "found": "nothing"}],
        "splits": {"members": 20, "reference": 5, "nonmembers": 20, "sha256": "0" * 64},
        "methods": {"baseline": method(0.6, 400), "prune-0.1": pruned},
    }  # fmt: skip


def results_file(**changes: Any) -> bytes:
    return json.dumps(results() | changes).encode()


def curves_file() -> bytes:
    def fill(file: h5py.File) -> None:
        for name in results()["methods"]:
            group = file.create_group(name)
            for attack in ("confidence", "entropy"):
                group[f"roc/{attack}/fpr"], group[f"roc/{attack}/tpr"] = np.linspace(0, 1, 7), np.linspace(0, 1, 7)
        pruned = file["prune-0.1"]
        for name in ("primal_residual", "primal_tolerance", "dual_residual", "dual_tolerance", "rho", "adversary_loss"):
            pruned[name] = rng().random((2, 4)) + 0.1

    return hdf5(fill)


def texas_tgz(count: int) -> bytes:
    features = lines([b"0"] * count, texas100.BITS - 1)
    return tgz({texas100.FEATURES: features, texas100.LABELS: b"".join(b"%d\n" % (i + 1) for i in range(count))})
