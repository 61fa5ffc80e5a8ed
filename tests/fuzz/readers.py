"""Every reader of files that may come from a stranger, in one table, each with a valid file made by code.

`read(folder)` reads the input, `folder / file`, as the package does. Where a published file is known by its SHA-256,
the reader is told that the input is the published one: else nothing behind the comparison would ever be reached.
`bombs` are inputs that no mutation comes to: they unpack to far more than they hold, by the limits of the real data
sets.
"""

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import formats
import h5py
import numpy as np
from mutate import Mutation

from nanoprune import report
from nanoprune.audit import cache, read_predictions
from nanoprune.audit.shadows import Shadows
from nanoprune.data import cifar, digits, location30, mnist, packed, purchase100, texas100
from nanoprune.data.source import SourceFile
from nanoprune.model import Model, load_model, save_model
from nanoprune.prune import read_keep_file
from nanoprune.recipes import recipe_for
from nanoprune.results import read_results
from nanoprune.zoo import build, describe

Bytes = Callable[[], bytes]
RECORDS = 40  # of a seed


@dataclasses.dataclass(frozen=True)
class Reader:
    """name, the file's name in its folder, how a valid file is made, how it is read, what knows its format."""

    name: str
    file: str
    seed: Bytes
    read: Callable[[pathlib.Path], Any]
    formats: Sequence[Mutation] = ()
    bombs: Sequence[Bytes] = ()
    cost: int = 1  # how many times fewer inputs it is given: plots and images take long
    valid: bool = True  # else the seed is no valid file: one of the real data set would be too large
    beside: dict[str, Bytes] = dataclasses.field(default_factory=dict)  # other files that must lie in the folder


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- data sets -------------------------------------------------------------------------------------------------------


def idx(*shape: int) -> bytes:
    """An IDX file of unsigned bytes."""
    values = rng().integers(0, 10, shape, np.uint8)
    return b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + values.tobytes()


def read_idx(folder: pathlib.Path) -> Any:
    """MNIST's loader on four files, of which the input is the training images: whatever it is, it is the right one."""
    shapes = {"train-labels": (4,), "t10k-images": (4, 5, 5), "t10k-labels": (4,)}
    (folder / "mnist").mkdir(exist_ok=True)
    data = (folder / "train-images").read_bytes()
    contents = {"train-images": data} | {name: idx(*shape) for name, shape in shapes.items()}
    for name, content in contents.items():
        (folder / "mnist" / name).write_bytes(content)
    files = [SourceFile("mnist", n, len(c), hashlib.sha256(c).hexdigest()) for n, c in contents.items()]
    return mnist.load_mnist(folder, files)


def read_idx_gz(folder: pathlib.Path) -> Any:
    """A file that must unpack to the published content."""
    content = idx(300)
    file = SourceFile(".", "labels.gz", len(content), hashlib.sha256(content).hexdigest())
    return mnist.parse_idx(file.read(folder), file.name)


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


def read_cifar(of: cifar.Cifar, folder: pathlib.Path) -> Any:
    return cifar.load_cifar(folder, of)


def read_cifar_file(of: cifar.Cifar, folder: pathlib.Path) -> Any:
    return cifar.parse_cifar((folder / "data.bin").read_bytes(), of, "data.bin")


SMALL = {of.archive.dataset: bench_cifar(of) for of in (cifar.CIFAR10, cifar.CIFAR100)}


def read_location30(folder: pathlib.Path) -> Any:
    return location30.load_location30(folder, dataclasses.replace(location30.FILES[0], size=1 << 20, sha256=None))


def zeros_in(member: str, size: int, megabytes: int) -> bytes:
    """A .tgz in which `member` is said to have `size` bytes, and zeros follow."""
    return formats.gzip_bomb(megabytes, formats.tar_header(member, size))


def newlines_in(member: str, size: int) -> bytes:
    """A .tgz in which `member` is `size` line feeds."""
    return formats.gzip_bomb(size >> 20, formats.tar_header(member, size), b"\n")


PURCHASE_SIZE = purchase100.RECORDS * (2 * purchase100.BITS + 6)
TEXAS_SIZE = texas100.RECORDS * 2 * texas100.BITS


# --- packed images ---------------------------------------------------------------------------------------------------


def hdf5(fill: Callable[[h5py.File], None]) -> bytes:
    """An HDF5 file in memory."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def packed_images() -> bytes:
    def fill(file: h5py.File) -> None:
        pixels = rng().integers(0, 256, (20, 4, 3, 4), np.uint8)
        file.create_dataset("images", data=pixels, chunks=(packed.CHUNK, 4, 3, 4))
        chunks = (pixels[: packed.CHUNK], pixels[packed.CHUNK :])
        file["chunk_sha256"] = np.stack([np.frombuffer(hashlib.sha256(c.tobytes()).digest(), np.uint8) for c in chunks])
        file["labels"] = (np.arange(20) % 3).astype(np.uint16)
        file["classes"] = np.array([b"cat", b"dog", b"owl"])
        file.attrs["format"], file.attrs["train"] = packed.FORMAT, 12

    return hdf5(fill)


def read_packed(folder: pathlib.Path) -> Any:
    """The file opened, and records of every chunk gathered."""
    dataset = packed.load_packed(folder / "images.h5", "imagenet")
    try:
        return dataset.x[np.arange(len(dataset.y))[:64]]
    finally:
        dataset.x.images.file.close()


def digits_file() -> bytes:
    return next(place for place in digits.PLACES if place.is_file()).read_bytes()


def jpeg() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rng().integers(0, 256, (40, 30, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def read_jpeg(folder: pathlib.Path) -> Any:
    """An image of `data pack`: broken ones are skipped, and named."""
    import warnings

    from PIL import Image

    from nanoprune.data.pack import crop
    from nanoprune.errors import DataError

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # as `pack` does
        found = crop(folder / "image.jpeg")
    if found is None:
        raise DataError("broken, skipped")
    return found


def packed_part() -> bytes:
    """What an interrupted `data pack` left of `pack_source`."""
    import tempfile

    from nanoprune.data import pack

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
    from nanoprune.data import pack

    for label in ("cat", "dog"):
        (folder / "src" / label).mkdir(parents=True, exist_ok=True)
        for i in range(9):
            path = folder / "src" / label / f"{i}.jpeg"
            if not path.exists():
                path.write_bytes(jpeg())
    return pack.find_images(folder / "src")


embedded = functools.cache(digits.load_digits)


# --- models ----------------------------------------------------------------------------------------------------------


def model_file(network: str = "mlp") -> bytes:
    """A model of few weights, with a history; resnet18 has running statistics too."""
    import tempfile

    shape, size = ((6,), [5, 4]) if network == "mlp" else ((16, 3, 16), 0.02)
    net = build(describe(network, shape, 3, size))
    net.initialise([np.random.default_rng(0)])
    recipe = recipe_for(embedded(), 20, keep=(0.5,), minmax=0.0)
    steps = [recipe.train_step(0.0), recipe.prune_step(0.5, 0.0)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.h5"
        save_model(Model(net, "digits", "0" * 64, 20, 5, 20, 0, steps), path)
        return path.read_bytes()


def read_model(folder: pathlib.Path) -> Any:
    """`load_model`, what `info` says of it, and what `attack` and `prune` read of its history."""
    from nanoprune.audit.shadows import make_pool, recipe_steps
    from nanoprune.inventory import inventory_of

    model = load_model(folder / "model.h5")
    if model.dataset == "digits":
        make_pool(model, embedded())
        recipe_steps(model, embedded(), plain=False)
    return json.dumps(inventory_of(str(folder / "model.h5")))


def safetensors_file() -> bytes:
    """A resnet18 of one channel, with torchvision's names."""
    from safetensors.numpy import save

    from nanoprune.torchvision import tensors
    from nanoprune.zoo import layers_of

    description = describe("resnet18", (16, 3, 16), 3, 0.02)
    return save({n: np.ones(shape, np.float32) for n, shape, *_ in tensors(layers_of(description), description)})


def read_safetensors(folder: pathlib.Path) -> Any:
    from nanoprune.torchvision import import_model

    return import_model(folder / "weights.safetensors", "resnet18", 16, 0.02)


NAMES = ["conv1", "conv2", "dense1", "dense2"]


def read_ratios(folder: pathlib.Path) -> Any:
    return read_keep_file(folder / "keep.json", NAMES)


# --- predictions and shadows -----------------------------------------------------------------------------------------


def predictions() -> dict[str, np.ndarray]:
    """A target's and a shadow's, of three classes."""
    found = {}
    for of, draw in (("target", np.random.default_rng(1)), ("shadow", np.random.default_rng(2))):
        p = draw.random((RECORDS, 3)) + 0.1
        found[f"{of}_probs"] = p / p.sum(axis=1, keepdims=True)
        found[f"{of}_labels"] = np.arange(RECORDS) % 3
        found[f"{of}_member"] = np.arange(RECORDS) % 2
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
    text = "".join(f"{y},{m},{','.join(f'{v:.6f}' for v in p)}\n" for y, m, p in rows)
    return ("label,member,p0,p1,p2\n" + text).encode()


def npz_bomb(shape: tuple[int, ...], megabytes: int, descr: str = "|u1", header: int | None = None) -> bytes:
    """An .npz whose target_probs are zeros, all there once unpacked; or whose header is said to be that long."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    start = b"\x93NUMPY\2\0" + (len(text) if header is None else header).to_bytes(4, "little") + text
    return formats.zip_bomb("target_probs.npy", start, megabytes)


def hdf5_bomb(shape: tuple[int, ...], dtype: str, name: str = "target_probs") -> bytes:
    """An HDF5 file of zeros, all there once unpacked."""

    def fill(file: h5py.File) -> None:
        for key, values in predictions().items():
            if key != name:
                file[key] = values
        made = file.create_dataset(name, shape, dtype, chunks=(1 << 20, *shape[1:]), compression="gzip")
        packed_zeros = zlib.compress(bytes((1 << 20) * np.dtype(dtype).itemsize * int(np.prod(shape[1:]))), 6)
        for start in range(0, shape[0], 1 << 20):
            made.id.write_direct_chunk((start, *(0 for _ in shape[1:])), packed_zeros)

    return hdf5(fill)


def read_scores(name: str, folder: pathlib.Path) -> Any:
    return read_predictions(folder / name)


MADE_BY = {"recipe": "of the test"}


def shadows() -> Shadows:
    draw = rng()
    inside = np.arange(6 * 8).reshape(6, 8) % 2 == 0
    logits = {stage: draw.normal(size=(6, 8, 3)).astype(np.float32) for stage in ("train", "prune")}
    population = {stage: draw.normal(size=(6, 5, 3)).astype(np.float32) for stage in ("train", "prune")}
    return Shadows(inside, logits, population, draw.normal(size=(6, 8)))


def shadow_file() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache.cached(folder, MADE_BY, shadows)
        return next(pathlib.Path(folder).iterdir()).read_bytes()


@functools.cache
def shadow_name() -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache.cached(folder, MADE_BY, shadows)
        return next(pathlib.Path(folder).iterdir()).name


def read_shadows(folder: pathlib.Path) -> Any:
    (folder / "shadows.h5").replace(folder / shadow_name())
    return cache.cached(folder, MADE_BY, shadows)


def forged(data: bytes, draw: Any) -> bytes:
    """A file of shadows with other arrays whose content hash is right: who forges the one can forge the other."""
    data = formats.hdf5(data, draw)
    stream = io.BytesIO(data)
    try:
        with h5py.File(stream, "r+") as file:
            file.attrs["content"] = cache._content(file)
    except Exception:  # what was made is no such file: then it stays as it is
        return data
    return stream.getvalue()


# --- results ---------------------------------------------------------------------------------------------------------


@functools.cache
def results() -> dict[str, Any]:
    """Results of two methods, with curves; as `reproduce` has them."""

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


def results_file() -> bytes:
    return json.dumps(results()).encode()


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


def read_report(folder: pathlib.Path) -> Any:
    """What `report` does: results, plots, page, and the tables."""
    found = read_results(folder)
    report.write_report(found, folder)
    report.results_table(found)
    return report.markdown_table(found)


def read_texts(folder: pathlib.Path) -> Any:
    """The page and the tables without plots, which take a hundred times as long as all the rest."""
    found = read_results(folder)
    report.check_results(found, folder)
    report.results_table(found)
    return report.markdown_table(found) + report.html.render_html(found, {})


def read_curves(folder: pathlib.Path) -> Any:
    """Every curve there is."""

    def walk(curves: Any) -> None:
        for name in curves:
            if isinstance(found := curves[name], report.curves.Curves):
                walk(found)

    with report.curves.open_curves(folder / "curves.h5") as found:
        walk(found)


def read_part(folder: pathlib.Path) -> Any:
    from nanoprune.data.pack import pack

    (folder / "images.h5").unlink(missing_ok=True)
    return pack(pack_source(folder), folder / "images.h5")


def texas_tgz(count: int) -> bytes:
    features = lines([b"0"] * count, texas100.BITS - 1)
    return tgz({texas100.FEATURES: features, texas100.LABELS: b"".join(b"%d\n" % (i + 1) for i in range(count))})


def model_bomb() -> bytes:
    """A model of a kilobyte whose network has two billion weights, none of which is in the file."""

    def fill(file: h5py.File) -> None:
        with h5py.File(io.BytesIO(model_file()), "r") as old:
            for name, value in old.attrs.items():
                file.attrs[name] = value
        description = {"network": "mlp", "input_shape": [999_999], "classes": 3, "widths": [1900]}
        file.attrs["network"] = json.dumps(description)
        size = build(description, replicas=0).theta.shape[1]
        file.create_dataset("theta", (size,), "f4", chunks=(1 << 20,), compression="gzip")

    return hdf5(fill)


LARGE = formats.gzip_bomb
READERS = {
    reader.name: reader
    for reader in (
        Reader("idx", "train-images", lambda: idx(4, 5, 5), read_idx),
        Reader("idx.gz", "labels.gz", lambda: gzip.compress(idx(300), mtime=0), read_idx_gz, (formats.gzipped(),),
               (lambda: LARGE(2000),)),
        *(
            Reader(f"{name} archive", f"{name}/{of.archive.name}", functools.partial(cifar_tgz, of),
                   functools.partial(read_cifar, of), (formats.gzipped(formats.tarred),), (lambda: LARGE(2000),))
            for name, of in SMALL.items()
        ),
        *(
            Reader(f"{name} file", "data.bin", lambda of=of: cifar_records(of, 3),
                   functools.partial(read_cifar_file, of))
            for name, of in SMALL.items()
        ),
        Reader("location30", "location30/dataset_location.tgz",
               lambda: tgz({"bangkok": lines([b'"%d"' % (i % 30 + 1) for i in range(RECORDS)], location30.BITS)}),
               read_location30, (formats.gzipped(formats.tarred),), (lambda: LARGE(2000),)),
        Reader("purchase100", "purchase100/dataset_purchase.tgz",
               lambda: tgz({"dataset_purchase": lines([b"%d" % (i + 1) for i in range(10)], purchase100.BITS)}),
               lambda folder: purchase100.load_purchase100(folder, 10), (formats.gzipped(formats.tarred),)),
        Reader("purchase100, all", "purchase100/dataset_purchase.tgz",
               lambda: tgz({"dataset_purchase": b""}), purchase100.load_purchase100, (formats.gzipped(formats.tarred),),
               (lambda: LARGE(2000), lambda: zeros_in("dataset_purchase", PURCHASE_SIZE, 300),
                lambda: zeros_in("other", 1 << 40, 2000), lambda: newlines_in("dataset_purchase", PURCHASE_SIZE),
                lambda: formats.gzip_bomb(1000, formats.tar_header("x", 1 << 30, tarfile.XHDTYPE))),
               valid=False),
        Reader("texas100", "texas100/dataset_texas.tgz", lambda: texas_tgz(5),
               lambda folder: texas100.load_texas100(folder, 5), (formats.gzipped(formats.tarred),)),
        Reader("texas100, all", "texas100/dataset_texas.tgz", lambda: tgz({texas100.FEATURES: b""}),
               texas100.load_texas100, (formats.gzipped(formats.tarred),),
               (lambda: LARGE(2500), lambda: zeros_in(texas100.FEATURES, TEXAS_SIZE, 1200),
                lambda: newlines_in(texas100.FEATURES, TEXAS_SIZE)),
               valid=False),
        Reader("digits", "digits.h5", digits_file, lambda folder: digits.load_digits(folder / "digits.h5"),
               (formats.hdf5,)),
        Reader("packed images", "images.h5", packed_images, read_packed, (formats.hdf5,)),
        Reader("jpeg", "image.jpeg", jpeg, read_jpeg),
        Reader("model", "model.h5", model_file, read_model, (formats.hdf5,), (model_bomb,)),
        Reader("model, normalised", "model.h5", lambda: model_file("resnet18"), read_model, (formats.hdf5,)),
        Reader("safetensors", "weights.safetensors", safetensors_file, read_safetensors, (formats.safetensors,)),
        Reader("keep file", "keep.json", lambda: b'{"conv2": 0.1, "3": 0.05, "dense1": 1}', read_ratios,
               (formats.as_json,)),
        Reader("predictions npz", "scores.npz", predictions_npz, functools.partial(read_scores, "scores.npz"),
               (formats.npz,),
               (lambda: npz_bomb((1 << 30, 2), 2048), lambda: npz_bomb((1 << 27, 2), 256),
                lambda: npz_bomb((4, 2), 2048, header=1 << 31))),
        Reader("predictions h5", "scores.h5", predictions_h5, functools.partial(read_scores, "scores.h5"),
               (formats.hdf5,),
               (lambda: hdf5_bomb((1 << 28, 2), "u1"), lambda: hdf5_bomb((1 << 27, 2), "f4"))),
        Reader("predictions csv", "scores.csv", predictions_csv, functools.partial(read_scores, "scores.csv"), (),
               (lambda: b"label,member," + b",".join(b"p%d" % c for c in range(1 << 20)) + b"\n0,1,0.5\n",)),
        Reader("shadow cache", "shadows.h5", shadow_file, read_shadows, (formats.hdf5, forged)),
        Reader("results", "results.json", results_file, read_texts, (formats.as_json,)),
        Reader("curves", "curves.h5", curves_file, read_curves, (formats.hdf5,)),
        Reader("report, results", "results.json", results_file, read_report, (formats.as_json,),
               beside={"curves.h5": curves_file}, cost=100),
        Reader("report, curves", "curves.h5", curves_file, read_report, (formats.hdf5,),
               beside={"results.json": results_file}, cost=100),
        Reader("pack, interrupted", "images.h5.part", packed_part, read_part, (formats.hdf5,), cost=100),
    )
}  # fmt: skip
