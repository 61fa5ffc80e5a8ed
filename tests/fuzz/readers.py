"""Every reader of untrusted files, in one table.

`read(folder)` reads the input, `folder / file`, as the package does. Where a published file is checked by its SHA-256,
the hash of the input is used instead: otherwise no code after the comparison would be reached.
"""

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import lzma
import pathlib
import tarfile
import tempfile
import warnings
from typing import Any

import formats
import numpy as np
from known import (
    ESCAPES,
    PURCHASE_SIZE,
    TEXAS_SIZE,
    chunk_bomb,
    curves_promise,
    endless,
    forged,
    forged_shadows,
    free_for_ever,
    hdf5_bomb,
    links,
    long_chunk,
    long_field,
    long_text,
    model_bomb,
    nested,
    newlines_in,
    npz_bomb,
    odd_name,
    odd_names_npz,
    odd_type,
    odd_version,
    shadow_promise,
    steps_with,
    virtual,
    with_attribute,
    with_text,
    zeros_in,
)
from run import Reader
from seeds import (
    IDENTITY,
    MADE_BY,
    RECORDS,
    SMALL,
    checkpoint_file,
    cifar_records,
    cifar_tgz,
    curves_file,
    digits_file,
    embedded,
    hdf5,
    idx,
    jpeg,
    lines,
    model_file,
    onnx_file,
    pack_source,
    packed_images,
    packed_part,
    predictions_csv,
    predictions_h5,
    predictions_npz,
    results,
    results_file,
    run_file,
    safetensors_file,
    sequential_model,
    shadow_file,
    shadows,
    task_file,
    texas_tgz,
    tgz,
)

from nanoprune.lab import report
from nanoprune.lab.audit import cache, read_predictions
from nanoprune.lab.data import cifar, digits, location30, mnist, packed, purchase100, texas100
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.experiment.keep_file import read_keep_file
from nanoprune.lab.experiment.results import read_results
from nanoprune.lab.models.model import load_model
from nanoprune.lab.storage.checkpoint import read_checkpoint
from nanoprune.lab.tasks.task import read_task


def read_idx(folder: pathlib.Path) -> Any:
    """MNIST's loader on four files, with the input as the training images, whose hash is accepted."""
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


def read_cifar(of: cifar.Cifar, folder: pathlib.Path) -> Any:
    return cifar.load_cifar(folder, of)


def read_cifar_file(of: cifar.Cifar, folder: pathlib.Path) -> Any:
    return cifar.parse_cifar((folder / "data.bin").read_bytes(), of, "data.bin")


def read_location30(folder: pathlib.Path) -> Any:
    return location30.load_location30(folder, dataclasses.replace(location30.FILES[0], size=1 << 20, sha256=None))


def read_packed(folder: pathlib.Path) -> Any:
    """The file opened, and records of every chunk gathered."""
    dataset = packed.load_packed(folder / "images.h5", "imagenet")
    try:
        return dataset.x[np.arange(len(dataset.y))[:64]]
    finally:
        dataset.x.images.file.close()


def read_jpeg(folder: pathlib.Path) -> Any:
    """An image of `data pack`: broken ones are skipped, and named."""

    from PIL import Image

    from nanoprune.errors import DataError
    from nanoprune.lab.data.pack import crop

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # as `pack` does
        found = crop(folder / "image.jpeg")
    if found is None:
        raise DataError("broken, skipped")
    assert (folder / "image.jpeg").read_bytes().startswith(b"\xff\xd8"), "decoded, and is no JPEG"
    return found


def read_model(folder: pathlib.Path) -> Any:
    """`load_model`, the output of `info`, and the steps that `attack` and `prune` read."""
    from nanoprune.lab.audit.shadows import make_pool, recipe_steps
    from nanoprune.lab.models.inventory import inventory_of

    model = load_model(folder / "model.h5")
    if model.dataset == "digits":
        make_pool(model, embedded())
        recipe_steps(model, embedded())
    return json.dumps(inventory_of(str(folder / "model.h5")))


def read_run(folder: pathlib.Path) -> Any:
    """A run's folder, as `--resume` reads it."""
    from nanoprune.lab.engine.run_folder import Run

    with Run(folder, resume=True) as run:
        run.begin(IDENTITY)


def read_safetensors(folder: pathlib.Path) -> Any:
    from nanoprune.lab.models.torchvision import import_model

    return import_model(folder / "weights.safetensors", "resnet18", 16, 0.02)


def read_onnx(folder: pathlib.Path) -> Any:
    from nanoprune.lab.models.onnx_import import import_onnx

    return import_onnx(folder / "net.onnx")


def read_ids(folder: pathlib.Path) -> Any:
    from nanoprune.lab.data.members import read_members

    return read_members(folder / "ids.txt", 1000)


NAMES = ["conv1", "conv2", "dense1", "dense2"]


def read_ratios(folder: pathlib.Path) -> Any:
    return read_keep_file(folder / "keep.json", NAMES)


def read_scores(name: str, folder: pathlib.Path) -> Any:
    return read_predictions(folder / name)


@functools.cache
def shadow_name() -> str:

    with tempfile.TemporaryDirectory() as folder:
        cache.cached(folder, MADE_BY, shadows)
        return next(pathlib.Path(folder).iterdir()).name


def read_shadows(folder: pathlib.Path) -> Any:
    (folder / "shadows.h5").replace(folder / shadow_name())
    return cache.cached(folder, MADE_BY, shadows)


def read_one_task(folder: pathlib.Path) -> Any:
    """The task, and the network that it describes."""
    return read_task(folder / "task.json").model()


def read_report(folder: pathlib.Path) -> Any:
    """As `report`: results, plots, page, and the tables."""
    found = read_results(folder)
    report.write_report(found, folder)
    report.results_table(found)
    return report.markdown_table(found)


def read_texts(folder: pathlib.Path) -> Any:
    """The page and the tables without plots, which take a hundred times as long as everything else."""
    found = read_results(folder)
    report.check_results(found, folder)
    report.results_table(found)
    return report.markdown_table(found) + report.comparison_html.render_html(found, {})


def read_curves(folder: pathlib.Path) -> Any:
    """Every curve that the plots look for."""
    lines = ("primal_residual", "primal_tolerance", "dual_residual", "dual_tolerance", "adversary_loss")
    with report.curves.open_curves(folder / "curves.h5") as curves:
        for method in results()["methods"]:
            for line in lines:
                if method in curves and line in curves[method]:
                    curves[method][line]
            for attack in ("confidence", "entropy"):
                if f"{method}/roc/{attack}" in curves:
                    [curves[f"{method}/roc/{attack}/{rate}"] for rate in ("fpr", "tpr")]


def read_part(folder: pathlib.Path) -> Any:
    from nanoprune.lab.data.pack import pack

    (folder / "images.h5").unlink(missing_ok=True)
    return pack(pack_source(folder), folder / "images.h5")


def read_table(name: str, folder: pathlib.Path) -> Any:
    """A table of one's own, and its first records gathered."""
    from nanoprune.lab.data.table_file import Reading, load_table

    dataset = load_table(folder / name, Reading("y", "who"))
    return dataset.x[np.arange(len(dataset.y))[:64]]


def table_csv() -> bytes:
    rows = (f"{i / 7},{'ab?'[i % 3]},p{i // 2},{'ny'[i % 2]}" for i in range(40))
    return "\n".join(["age,ward,who,y", *rows]).encode()


def table_parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [line.split(",") for line in table_csv().decode().splitlines()[1:]]
    age, ward, who, y = map(list, zip(*rows, strict=True))
    file = io.BytesIO()
    pq.write_table(pa.table({"age": [float(a) for a in age], "ward": ward, "who": who, "y": y}), file)
    return file.getvalue()


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
               valid=False, seconds=10),  # as large as the real one: 4 s on a machine that is not shared
        Reader("digits", "digits.h5", digits_file, lambda folder: digits.load_digits(folder / "digits.h5"),
               (formats.hdf5,), (lambda: odd_type(digits_file(), "images"),)),
        Reader("packed images", "images.h5", packed_images, read_packed, (formats.hdf5,),
               (lambda: odd_type(packed_images(), "labels"), lambda: endless(virtual(packed_images(), "labels")),
                *links(packed_images(), "images", "counts"))),
        Reader("packed, format 1", "images.h5", lambda: packed_images(1), read_packed, (formats.hdf5,),
               (lambda: long_chunk(packed_images(1), 16 * 4 * 3 * 4),)),
        Reader("jpeg", "image.jpeg", jpeg, read_jpeg, (),
               (*(functools.partial(jpeg, kind) for kind in ("PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "EPS")),
                lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\n%%EOF\n")),
        Reader("model", "model.h5", model_file, read_model, (formats.hdf5,),
               (model_bomb, lambda: endless(virtual(model_file(), "theta")), long_field,
                lambda: steps_with("scheme", "a" * 5000), lambda: steps_with("step", "a" * 5000),
                lambda: steps_with("keep", 10**400),
                lambda: with_text("model", "[" * 100_000), lambda: long_text(model_file(), "model"),
                lambda: with_attribute("format", np.zeros(3)), *links(model_file(), "theta", "target_labels"),
                lambda: odd_name(model_file()), lambda: odd_version(9),
                lambda: steps_with("step", ESCAPES), lambda: steps_with("epochs", 10**12),
                lambda: odd_type(model_file(), "theta"))),
        Reader("model, normalised", "model.h5", lambda: model_file("resnet18"), read_model, (formats.hdf5,)),
        Reader("model, sparse", "model.h5", lambda: model_file(keep=0.1), read_model, (formats.hdf5,)),
        Reader("checkpoint", "c.h5", checkpoint_file, lambda folder: read_checkpoint(folder / "c.h5"), (formats.hdf5,),
               (lambda: long_text(checkpoint_file(), "values"), *links(checkpoint_file(), "state/a", "state"))),
        Reader("run", "run.json", run_file, read_run, (formats.as_json,),
               (lambda: b"[" * 100_000, lambda: run_file(identity=nested(500)),
                lambda: run_file(identity={"x" * 5000: 1}))),
        Reader("safetensors", "weights.safetensors", safetensors_file, read_safetensors, (formats.safetensors,),
               (lambda: safetensors_file(last=()),)),
        Reader("onnx", "net.onnx", onnx_file, read_onnx),
        Reader("onnx, packed", "net.onnx", lambda: onnx_file("packed"), read_onnx),
        Reader("model, sequential", "model.h5", sequential_model, read_model, (formats.hdf5,)),
        Reader("members", "ids.txt", lambda: b"".join(b"%d\n" % i for i in range(0, 999, 7)), read_ids, (),
               (lambda: b"9" * 20_000, lambda: b"\n" * 30_000, lambda: "\u0663\n".encode())),
        Reader("keep file", "keep.json", lambda: b'{"conv2": 0.1, "3": 0.05, "dense1": 1}', read_ratios,
               (formats.as_json,), (lambda: b'{"%s": 0.5}' % (b"1" * 5000), lambda: b"[]", lambda: b"[" * 100_000)),
        Reader("predictions npz", "scores.npz", predictions_npz, functools.partial(read_scores, "scores.npz"),
               (formats.npz,),
               (lambda: npz_bomb((1 << 30, 2), 2048), lambda: npz_bomb((1 << 27, 2), 256),
                lambda: npz_bomb((4, 2), 2048, header=1 << 31), lambda: odd_names_npz(1),
                lambda: odd_names_npz(20_000))),
        Reader("predictions h5", "scores.h5", predictions_h5, functools.partial(read_scores, "scores.h5"),
               (formats.hdf5,),
               (lambda: hdf5_bomb((1 << 28, 2), "u1"), lambda: hdf5_bomb((1 << 27, 2), "f4"),
                lambda: chunk_bomb((1 << 20, 2), 3000), lambda: chunk_bomb((40, 3), 3000),
                lambda: free_for_ever(predictions_h5()), lambda: odd_name(predictions_h5()),
                lambda: odd_name(hdf5(lambda file: None)), lambda: odd_name(hdf5(lambda file: None), long=True),
                *links(predictions_h5(), "target_probs", "theta"),
                lambda: odd_type(predictions_h5(), "target_probs"))),
        Reader("predictions csv", "scores.csv", predictions_csv, functools.partial(read_scores, "scores.csv"), (),
               (lambda: b"label,member," + b",".join(b"p%d" % c for c in range(1 << 20)) + b"\n0,1,0.5\n",
                lambda: b"," * (1 << 22))),
        Reader("predictions csv.gz", "scores.csv.gz", lambda: gzip.compress(predictions_csv()),
               functools.partial(read_scores, "scores.csv.gz"), (),
               (lambda: gzip.compress(b"," * (1 << 22)), lambda: gzip.compress(bytes(1 << 24)),
                lambda: gzip.compress(b"label,member,p0,p1\n" + b"\n" * (1 << 24)))),
        Reader("shadow cache", "shadows.h5", shadow_file, read_shadows, (formats.hdf5, forged),
               (lambda: forged_shadows("inside", np.zeros((6, 9), bool)),
                lambda: forged_shadows("logits/prune", np.full((6, 8, 3), np.nan, np.float32)), shadow_promise,
                lambda: odd_type(shadow_file(), "inside"), lambda: long_text(shadow_file(), "content"))),
        Reader("task", "task.json", task_file, read_one_task, (formats.as_json,),
               (lambda: b"[" * 100_000, lambda: b'{"kind": "shadows", "kind": "shadows"}', lambda: b'{"a": 1e999}',
                lambda: task_file().replace(b'"shadows":6', b'"shadows":' + b"9" * 4000))),
        Reader("table csv", "t.csv", table_csv, functools.partial(read_table, "t.csv"), (),
               (*(lambda of=of: of * (1 << 22) for of in (b",", b'"', b"\n", b"\0")),
                lambda: b"y,who\n" + b"0,1\n" * (1 << 20), lambda: b"y," + b"a," * 9000 + b"who\n",
                lambda: table_csv().replace(b"3.0", b"1e999"), lambda: table_csv().replace(b"3.0", b"9" * 100_000))),
        Reader("table csv.gz", "t.csv.gz", lambda: gzip.compress(table_csv(), mtime=0),
               functools.partial(read_table, "t.csv.gz"), (formats.gzipped(),),
               (lambda: LARGE(2000), lambda: LARGE(300, table_csv(), b"\n"))),
        Reader("table csv.xz", "t.csv.xz", lambda: lzma.compress(table_csv()),
               functools.partial(read_table, "t.csv.xz"), (),
               (lambda: lzma.compress(bytes(1 << 29), preset=0),)),
        Reader("table parquet", "t.parquet", table_parquet, functools.partial(read_table, "t.parquet")),
        Reader("results", "results.json", results_file, read_texts, (formats.as_json,),
               (lambda: b"[" * 100_000, lambda: results_file(recipe=nested(500)), lambda: results_file(seconds=1e308),
                lambda: results_file(methods={str(i): {} for i in range(5000)}),
                lambda: results_file().replace(b"0.6", b"NaN"), lambda: results_file(dataset="\ud800"),
                lambda: results_file().replace(b"train_accuracy", b"train-accuracy"),
                lambda: results_file().replace(b"test_accuracy_change", b"x"),
                lambda: results_file().replace(b"attack_accuracy_change", b"x"),
                lambda: results_file().replace(b'"0.001"', b'"0.@01"'))),
        Reader("curves", "curves.h5", curves_file, read_curves, (formats.hdf5,),
               (curves_promise, *links(curves_file(), "baseline", "prune-0.1/rho"))),
        Reader("report, results", "results.json", results_file, read_report, (formats.as_json,),
               beside={"curves.h5": curves_file}, cost=100),
        Reader("report, curves", "curves.h5", curves_file, read_report, (formats.hdf5,),
               beside={"results.json": results_file}, cost=100),
        Reader("pack, interrupted", "images.h5.part", packed_part, read_part, (formats.hdf5,), cost=100),
    )
}  # fmt: skip
