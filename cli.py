"""The command line of nanoprune. Thin: every command parses its options and calls one function of the package."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

import nanoprune
from nanoprune.backend import use_device
from nanoprune.console import Commands, Exempt, Keep, Members, Numbers, ProgressBars
from nanoprune.errors import ArgumentError

PATH_OPTIONS = ("--out", "--src", "--data-dir", "--json", "--report", "--cache")  # not part of how a run is repeated
EPILOG = "Errors are one line on standard error; the exit status is then 2."


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator, in the order given."""

    def add(command: Callable) -> Callable:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="[cpu|gpu|gpu-tf32|auto]",
    help="Where to compute; gpu-tf32: products with factors rounded to TF32.",
)
threads_option = click.option("--threads", type=click.IntRange(1), help="Worker threads.  [default: the processors]")
data_option = click.option(
    "--data-dir",
    type=click.Path(path_type=pathlib.Path),
    help="Folder with one folder for each data set.  [default: $NANOPRUNE_DATA, else data/]",
)
machine_options = options(device_option, threads_option, data_option)
members_option = click.option("--members", type=Members(), help="Size of the training set, or all.")
split_options = options(
    members_option,
    click.option("--reference", type=int, help="Size of the game's reference set."),
    click.option("--nonmembers", type=int, help="How many held-out records."),
)
game_option = click.option(
    "--minmax",
    type=float,
    metavar="LAMBDA",
    help="Weight of the Min-Max game, 0 for none.  [default: the recipe's in reproduce, else 0]",
)


network_options = options(
    click.option("--network", help="A network's name: see `info`.  [default: the recipe's]"),
    click.option(
        "--width", type=float, help="Width multiplier of vgg16, mobilenetv2 and resnet18.  [default: the recipe's]"
    ),
)
scope_option = click.option(
    "--scope",
    type=click.Choice(["layer", "global"]),
    help="Is a ratio of each layer or of all weights together?  [default: the recipe's]",
)
scheme_options = options(
    click.option(
        "--keep-file",
        type=click.Path(path_type=pathlib.Path),
        help='JSON with a share for each layer, {"conv2": 0.1, "dense1": 0.05}; the others keep all.',
    ),
    click.option(
        "--scheme",
        metavar="SCHEME",
        help="What lives or dies together: unstructured, filter, channel, column, block[:B] or N:M such as 2:4.  "
        "[default: unstructured]",
    ),
    click.option(
        "--exempt",
        type=Exempt(),
        help="Layers that one ratio for all leaves whole.  [default: first,last; unstructured: none]",
    ),
)


alpha_option = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Intervals have confidence 1 - alpha.",
)


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nanoprune.__version__, prog_name="nanoprune")
def main() -> None:
    """Weight pruning as a defence against membership inference, by hand, on NumPy or CuPy.

    \b
    python cli.py reproduce digits              the comparison on the embedded data
    python cli.py data fetch mnist              download and check a data set
    python cli.py train mnist --out model.h5    one network
    python cli.py prune model.h5 --keep 0.05 --out pruned.h5
    python cli.py shrink filters.h5 --out small.h5  without pruned filters and channels: smaller, the same outputs
    python cli.py attack pruned.h5              with shadow models trained as it was
    python cli.py audit scores.npz              predictions of any model, from any framework
    python cli.py report results/digits         the plots, the page and the table again
    python cli.py import FILE --network resnet18 --out model.h5
    python cli.py info resnet18                 the layers of a network or a model file
    python cli.py verify                        every formula against an independent calculation
    """


@main.command(epilog=EPILOG)
@click.argument("dataset")
@click.option(
    "--out", type=click.Path(path_type=pathlib.Path), help="Folder of the results.  [default: results/DATASET]"
)
@click.option("--seeds", type=int, help="How many seeds, each with its own split and initial weights.")
@click.option(
    "--first-seed", type=click.IntRange(0), default=0, show_default=True, help="The seeds count up from here."
)
@click.option("--keep", type=Keep(), multiple=True, help="Share of the weights to keep; may be repeated.")
@scope_option
@scheme_options
@split_options
@game_option
@network_options
@click.option(
    "--attacks",
    type=click.Choice(["standard", "full"]),
    default="standard",
    show_default=True,
    help="full: shadow models against every network too, which takes long.",
)
@click.option(
    "--shadows", type=int, default=16, show_default=True, help="Shadow models a network, where attacks are full."
)
@click.option("--weight-decay", type=float, help="Of the dense networks: L2 as a control.  [default: the recipe's]")
@machine_options
def reproduce(
    dataset: str,
    out: pathlib.Path | None,
    seeds: int | None,
    first_seed: int,
    keep: tuple[Any, ...],
    scope: str | None,
    keep_file: pathlib.Path | None,
    scheme: str | None,
    exempt: tuple[str, ...] | None,
    members: int | str | None,
    reference: int | None,
    nonmembers: int | None,
    minmax: float | None,
    network: str | None,
    width: float | None,
    attacks: str,
    shadows: int,
    weight_decay: float | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Run the paper's comparison on DATASET: digits, mnist, location30, purchase100, texas100, cifar10 or cifar100.

    Trains and attacks the unprotected network, the two controls (stopped early at the pruned network's accuracy; dense
    of the pruned one's size), the Min-Max game, and MIA-Pruning without and with the game for each --keep. Writes
    results.json, curves.h5, plots and report.html to the folder --out and prints a table.

    \b
    python cli.py reproduce digits
    python cli.py reproduce location30 --seeds 5 --keep 0.1 --keep 0.05 --keep 0.02
    python cli.py reproduce mnist --members all --out results/mnist-all
    python cli.py reproduce mnist --scheme filter --keep 0.5
    python cli.py reproduce cifar10 --network vgg16 --width 0.25
    """
    from nanoprune.files import check_writable
    from nanoprune.prune import read_keep_file
    from nanoprune.recipes import layer_names, recipe_for
    from nanoprune.report import results_table, write_report
    from nanoprune.reproduce import reproduce as run
    from nanoprune.results import write_results

    data, threads = _prepare(dataset, device, threads, data_dir)
    sizes = {"reference": reference, "nonmembers": nonmembers}
    if keep_file:
        keep = (*keep, read_keep_file(keep_file, layer_names(data, members, network)))
    changes = {"keep": keep or None, "scope": scope, "minmax": minmax, "seeds": seeds, "scheme": scheme}
    recipe = recipe_for(data, members, **changes, **sizes, exempt=exempt, network=network, widths=width)
    recipe = dataclasses.replace(recipe, dense=_changed(recipe.dense, weight_decay=weight_decay))
    out = out or pathlib.Path("results") / dataset
    check_writable(out)
    with ProgressBars() as progress:
        numbers = range(first_seed, first_seed + recipe.seeds)
        results, curves = run(data, recipe, numbers, threads, progress, _command(), shadows if attacks == "full" else 0)
    write_results(results, curves, out)
    write_report(results, out)
    Console().print(results_table(results))
    for note in results["notes"]:
        click.echo(f"note: {note}")
    click.echo(f"{results['seconds']:.0f} s; {out / 'report.html'}")


@main.command(epilog=EPILOG)
@click.argument("dataset")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@network_options
@click.option("--epochs", type=click.IntRange(1), help="Passes over the members.")
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@split_options
@game_option
@machine_options
def train(
    dataset: str,
    out: pathlib.Path,
    network: str | None,
    width: float | None,
    epochs: int | None,
    lr: float | None,
    seed: int,
    members: int | str | None,
    reference: int | None,
    nonmembers: int | None,
    minmax: float | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Train one dense network on DATASET and write it to a model file.

    \b
    python cli.py train location30 --out model.h5
    python cli.py train mnist --members all --epochs 20 --out model.h5
    python cli.py train cifar10 --network mobilenetv2 --width 0.25 --out model.h5
    """
    from nanoprune.model import save_model
    from nanoprune.practice import summary_line, train_model
    from nanoprune.recipes import recipe_for

    data, threads = _prepare(dataset, device, threads, data_dir)
    sizes = {"reference": reference, "nonmembers": nonmembers}
    recipe = recipe_for(data, members, minmax=minmax or 0.0, network=network, widths=width, **sizes)
    recipe = dataclasses.replace(recipe, dense=_changed(recipe.dense, epochs=epochs, lr=lr))
    _check_file(out)
    with ProgressBars() as progress:
        model = train_model(data, recipe, seed, threads, progress)
    save_model(model, out)
    click.echo(summary_line(model, data))


@main.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--keep", type=Keep(), help="Share of the weights to keep, or one share a layer.")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@click.option("--rho", type=float, help="Penalty of ADMM.")
@click.option("--iterations", type=click.IntRange(1), help="ADMM iterations.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the members in all ADMM iterations together.")
@click.option("--retrain-epochs", type=click.IntRange(1), help="Passes over the members after the hard prune.")
@click.option("--lr", type=float, help="Learning rate of the W-steps.")
@click.option("--adaptive", is_flag=True, help="Adapt rho to balance the residuals.")
@scope_option
@scheme_options
@click.option("--json", "json_path", type=click.Path(path_type=pathlib.Path), help="Write the last table to this file.")
@click.option("--via", type=float, multiple=True, help="A ratio to prune to on the way; may be repeated.")
@game_option
@machine_options
def prune(
    model: pathlib.Path,
    keep: Any,
    out: pathlib.Path,
    rho: float | None,
    iterations: int | None,
    epochs: int | None,
    retrain_epochs: int | None,
    lr: float | None,
    adaptive: bool,
    scope: str | None,
    keep_file: pathlib.Path | None,
    scheme: str | None,
    exempt: tuple[str, ...] | None,
    json_path: pathlib.Path | None,
    via: tuple[float, ...],
    minmax: float | None,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Prune the model file MODEL by ADMM, retrain the survivors, and write the result.

    Prints one line for each ADMM iteration; then for each layer the share of the weights that was asked for and that
    is left, with parameters, multiplications and bytes; and last the accuracies and the compression.

    \b
    python cli.py prune model.h5 --keep 0.05 --out pruned.h5
    python cli.py prune model.h5 --keep 0.01 --via 0.05 --scope global --out pruned.h5
    python cli.py prune lenet5.h5 --keep 0.2,0.08,0.009,0.07 --out pruned.h5
    python cli.py prune lenet5.h5 --scheme filter --keep 0.5 --out filters.h5
    python cli.py prune model.h5 --scheme 2:4 --exempt none --out pruned.h5
    """
    from nanoprune.files import write_json
    from nanoprune.model import load_model, save_model
    from nanoprune.practice import prune_model, summary_line
    from nanoprune.prune import costs, read_keep_file
    from nanoprune.prune.admm import Iteration
    from nanoprune.recipes import one_ratio, recipe_for
    from nanoprune.report import cost_table

    use_device(device)
    dense = load_model(model)
    data, threads = _prepare(dense.dataset, device, threads, data_dir)
    members = "all" if dense.members is None else dense.members
    ratios = one_ratio(keep, read_keep_file(keep_file, dense.net.names) if keep_file else None, scheme)
    changes = {"keep": (ratios,), "scope": scope, "scheme": scheme, "exempt": exempt, "via": via or None}
    recipe = recipe_for(data, members, minmax=minmax or 0.0, **changes)
    recipe = dataclasses.replace(
        recipe,
        prune=_changed(recipe.prune, epochs=epochs, lr=lr),
        retrain=_changed(recipe.retrain, epochs=retrain_epochs),
        admm=_changed(recipe.admm, rho=rho, iterations=iterations, adaptive=adaptive or None),
    )
    budget = recipe.budget(dense.net, ratios)
    _check_file(out)
    _check_outputs(out, json_path)
    click.echo(Iteration.HEADER)
    with ProgressBars() as progress:
        pruned = prune_model(
            dense, data, recipe, ratios, threads, progress, lambda iteration: click.echo(iteration.line())
        )
    save_model(pruned, out)
    found = costs(pruned.net, budget)
    if json_path:
        write_json(found, json_path)
    Console().print(cost_table(found))
    click.echo(summary_line(pruned, data))


@main.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@device_option
def shrink(model: pathlib.Path, out: pathlib.Path, device: str) -> None:
    """Write the network of the model file MODEL without the units that it no longer needs: smaller, the same outputs.

    Those are the units that no weight reads (`prune --scheme channel`) and those without a weight (`--scheme filter`),
    whose constant outputs go into the biases of the next layer. Prints what is left of each layer.

    
    python cli.py prune lenet5.h5 --scheme filter --keep 0.5 --out filters.h5
    python cli.py shrink filters.h5 --out small.h5
    """
    from nanoprune.model import load_model, save_model
    from nanoprune.practice import shrunk
    from nanoprune.prune import costs
    from nanoprune.report import cost_table
    from nanoprune.zoo import widths_of

    use_device(device)
    before = load_model(model)
    _check_file(out)
    after = shrunk(before)
    save_model(after, out)
    Console().print(cost_table(costs(after.net)))
    widths, narrow = (widths_of(of.net.description) for of in (before, after))
    click.echo(
        f"widths {widths} to {narrow}, parameters {before.net.size:,} to {after.net.size:,} "
        f"({before.net.size / after.net.size:.1f}x)"
    )


@main.command(epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=pathlib.Path))
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def report(folder: pathlib.Path, markdown: bool) -> None:
    """Make the plots and report.html in FOLDER again from its results.json and curves.h5, and print the table.

    \b
    python cli.py report results/digits
    python cli.py report results/digits --markdown
    """
    from nanoprune.report import markdown_table, results_table, write_report
    from nanoprune.results import read_results

    results = read_results(folder)
    write_report(results, folder)
    if markdown:
        click.echo(markdown_table(results))
    else:
        Console().print(results_table(results))


@main.command(epilog=EPILOG)
@click.argument("scores", type=click.Path(path_type=pathlib.Path))
@click.option("--json", "json_path", type=click.Path(path_type=pathlib.Path), help="Write the results to this file.")
@click.option("--report", "page", type=click.Path(path_type=pathlib.Path), help="Write a self-contained HTML page.")
@alpha_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the two halves and the network.")
@threads_option
def audit(
    scores: pathlib.Path,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
    alpha: float,
    seed: int,
    threads: int | None,
) -> None:
    """Audit the predictions in SCORES (.npz, .h5 or .csv) of a model from any framework.

    .npz and .h5 hold target_probs (n, classes) or target_logits, target_labels (n,) and target_member (n,), and
    optionally the same three as shadow_..., of a model of your own trained alike: the attacks are then fitted on it.
    A .csv has the columns label,member,p0,p1,... Without a shadow each half of the records teaches the attacks on the
    other. Nothing is unpickled.

    \b
    python cli.py audit scores.npz
    python cli.py audit scores.csv --json audit.json --report audit.html
    """
    from nanoprune.audit import audit as run
    from nanoprune.audit import read_predictions
    from nanoprune.parallel import default_threads

    _check_outputs(scores, json_path, page)
    target, shadow = read_predictions(scores)
    with ProgressBars() as progress:
        results, curves = run(
            target, shadow, alpha, seed, threads or default_threads(), progress.start, progress.advance
        )
    _deliver(results, curves, scores, json_path, page)


@main.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.option("--dataset", help="Must be the model's own.  [default: what the model file says]")
@click.option("--shadows", type=int, default=16, show_default=True, help="How many shadow models: even, at least 6.")
@click.option("--dense", type=click.Path(path_type=pathlib.Path), help="The model that MODEL was pruned from.")
@click.option("--json", "json_path", type=click.Path(path_type=pathlib.Path), help="Write the results to this file.")
@click.option("--report", "page", type=click.Path(path_type=pathlib.Path), help="Write a self-contained HTML page.")
@click.option("--cache", type=click.Path(path_type=pathlib.Path), help="Keep the shadows' predictions in this folder.")
@alpha_option
@machine_options
def attack(
    model: pathlib.Path,
    dataset: str | None,
    shadows: int,
    dense: pathlib.Path | None,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
    cache: pathlib.Path | None,
    alpha: float,
    device: str,
    threads: int | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Attack the model file MODEL with shadow models that are trained as it was, pruning, game and all.

    LiRA, RMIA, difficulty calibration, the attack network and the threshold attacks; for a defended model also by an
    attacker who trains plain shadows, and for a pruned one by what its mask alone says and, with --dense, by an
    attacker who holds both networks. With --cache the shadows are trained once.

    \b
    python cli.py attack model.h5
    python cli.py attack pruned.h5 --dense model.h5 --cache results/shadows --report attack.html
    """
    from nanoprune.audit import attack_model
    from nanoprune.files import check_writable
    from nanoprune.model import load_model

    use_device(device)
    target, before = load_model(model), load_model(dense) if dense else None
    if dataset not in (None, target.dataset):
        raise ArgumentError(f"--dataset {dataset}: the model was trained on {target.dataset}; leave the option out")
    data, threads = _prepare(target.dataset, device, threads, data_dir)
    _check_outputs(model, json_path, page)
    if cache:
        check_writable(cache)
    with ProgressBars() as progress:
        results, curves = attack_model(target, data, shadows, alpha, threads, progress, before, cache)
    _deliver(results, curves, model, json_path, page)


@main.command(epilog=EPILOG)
@click.argument("network")
@click.option("--input", "side", type=click.IntRange(1), help="Side of the images.  [default: what it was made for]")
@click.option("--width", type=float, help="Width multiplier of vgg16, mobilenetv2 and resnet18.  [default: 1]")
@click.option("--classes", type=click.IntRange(1), help="[default: 1000 for large images, else 10]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(network: str, side: int | None, width: float | None, classes: int | None, as_json: bool) -> None:
    """Print the layers of NETWORK, a name or a model file: shapes, weights, multiply-accumulates.

    Of a model file also how many weights, and multiply-accumulates with them, are not zero.

    \b
    python cli.py info resnet18
    python cli.py info mobilenetv2 --input 32 --width 0.5 --json
    python cli.py info pruned.h5
    """
    from nanoprune.inventory import inventory_of
    from nanoprune.report import inventory_table

    found = inventory_of(network, side, width, classes)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        Console().print(inventory_table(found))


@main.command("import", epilog=EPILOG)
@click.argument("weights", metavar="FILE", type=click.Path(path_type=pathlib.Path))
@click.option("--network", required=True, help="vgg16, mobilenetv2 or resnet18.")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The model file to write.")
@click.option("--input", "side", type=click.IntRange(1), default=224, show_default=True, help="Side of the images.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Width multiplier.")
@click.option("--mean", type=Numbers(), help="Of each channel of its images, where those were standardised.")
@click.option("--std", type=Numbers(), help="Their standard deviations.")
@click.option("--dataset", help="What it was trained on: the official training set. `prune` needs to know.")
@data_option
def import_(
    weights: pathlib.Path,
    network: str,
    out: pathlib.Path,
    side: int,
    width: float,
    mean: list[float] | None,
    std: list[float] | None,
    dataset: str | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Make a model file of FILE, weights in the safetensors format with torchvision's names.

    Its outputs are those of torchvision's vgg16_bn, mobilenet_v2 or resnet18 on the same inputs. The package
    safetensors comes with the extra import.

    \b
    python cli.py import resnet18.safetensors --network resnet18 --out resnet18.h5 \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    python cli.py import vgg.safetensors --network vgg16 --input 32 --dataset cifar10 --out vgg16.h5
    """
    from nanoprune.data import load
    from nanoprune.model import save_model
    from nanoprune.torchvision import import_model

    use_device("cpu")
    _check_outputs(weights, out)
    if (mean is None) != (std is None):
        raise ArgumentError("--mean and --std must be given together")
    standardise = None if mean is None else [mean, std]
    model = import_model(weights, network, side, width, standardise, load(dataset, data_dir) if dataset else None)
    save_model(model, out)
    click.echo(f"{out}: {network}, {model.net.size:,} parameters, {model.net.output_shape[0]} classes")


@main.command(epilog="Exit status 1 if a check fails. " + EPILOG)
def verify() -> None:
    """Check every formula against an independent calculation: the certificate for an auditor.

    Gradients against central differences in float64, the fast convolution against nested loops, the projection against
    all supports enumerated, ADMM against known solutions, the metrics against counting. One line each: the name, our
    number, the other one.
    """
    from nanoprune.verify import run

    failed = 0
    for check in run():
        click.echo(check.line())
        failed += not check.passed
    click.echo(f"{failed} of the checks failed" if failed else "all checks passed")
    sys.exit(1 if failed else 0)


@main.group()
def data() -> None:
    """The data sets."""


@data.command(epilog=EPILOG)
@click.argument("name")
@data_option
@click.option("--mirror", multiple=True, metavar="URL", help="Look here instead of the known mirrors; may be repeated.")
def fetch(name: str, data_dir: pathlib.Path | None, mirror: tuple[str, ...]) -> None:
    """Download data set NAME, check its SHA-256 where that is known, and put it in place.

    \b
    python cli.py data fetch mnist
    python cli.py data fetch cifar10 --data-dir ~/data
    """
    from nanoprune.data import fetch as download
    from nanoprune.data import find_data_dir

    with ProgressBars() as progress:
        paths = download(name, data_dir, mirrors=list(mirror) or None, progress=progress.reach)
    for path in paths:
        click.echo(f"{path}: fetched and checked")
    if not paths:
        place = "comes with nanoprune" if name == "digits" else f"is in {find_data_dir(data_dir) / name} already"
        click.echo(f"{name} {place}")


@data.command("pack", epilog=EPILOG)
@click.argument("name")
@click.option("--src", required=True, type=click.Path(path_type=pathlib.Path), help="The folder of the class folders.")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="The HDF5 file to write.")
@threads_option
def pack_images(name: str, src: pathlib.Path, out: pathlib.Path, threads: int | None) -> None:
    """Pack the JPEG files of data set NAME (imagenet) into one file that is read a chunk at a time.

    DIR holds CLASS/*.JPEG, or train/CLASS/*.JPEG and val/CLASS/*.JPEG. The shorter side is resized to 256 pixels, the
    middle 224 x 224 are kept. Interrupted, it goes on where it was when it is run again. Needs the extra `images`.

    \b
    python cli.py data pack imagenet --src DIR --out data/imagenet/imagenet.h5
    """
    from nanoprune.data.pack import find_images, pack
    from nanoprune.parallel import default_threads

    if name != "imagenet":
        raise ArgumentError(f"data set must be imagenet, got {name!r}; the others need no packing")
    source = find_images(src)
    with ProgressBars() as progress:
        kept, broken = pack(
            source,
            out,
            threads or default_threads(),
            lambda done, total: progress.reach("pack", done, total),
            lambda path: click.echo(f"{src / path}: broken, skipped", err=True),
        )
    click.echo(f"{out}: {kept} images of {len(source.classes)} classes, {broken} broken ones skipped")


def _prepare(name: str, device: str, threads: int | None, data_dir: pathlib.Path | None) -> tuple[Any, int]:
    """Choose the device, load the data set; return it with the number of threads."""
    from nanoprune.data import load
    from nanoprune.parallel import default_threads

    use_device(device)
    return load(name, data_dir), threads or default_threads()


def _check_file(out: pathlib.Path) -> None:
    """Refuse, before the work, a model file that could not be written after it."""
    from nanoprune.files import check_writable

    if out.is_dir():
        raise ArgumentError(f"{out} is a folder; name the file to write")
    check_writable(out.parent)


def _check_outputs(source: pathlib.Path, *outputs: pathlib.Path | None) -> None:
    """Refuse to write over what is read, or one result over the other."""
    taken = {source.resolve()}
    for path in filter(None, outputs):
        if path.resolve() in taken:
            raise ArgumentError(f"{path} is named twice; give every result a file of its own")
        taken.add(path.resolve())
        _check_file(path)


def _deliver(
    results: dict[str, Any],
    curves: dict,
    source: pathlib.Path,
    json_path: pathlib.Path | None,
    page: pathlib.Path | None,
) -> None:
    """Write an audit's files and print its verdict and table."""
    from nanoprune.audit import write_audit
    from nanoprune.audit.predictions import file_sha256
    from nanoprune.report import audit_table, audit_verdict, write_audit_page

    results |= {"source": {"name": source.name, "sha256": file_sha256(source)}, "command": _command()}
    if json_path:
        write_audit(results, json_path)
    if page:
        write_audit_page(results, curves, page)
    for paragraph in audit_verdict(results):
        click.echo(f"{paragraph}\n")
    Console().print(audit_table(results))


def _changed(record: Any, **changes: Any) -> Any:
    """A dataclass with the changes that are not None."""
    return dataclasses.replace(record, **{name: value for name, value in changes.items() if value is not None})


def _command() -> str:
    """The command as a reader can repeat it: without the folders of this machine."""
    words, kept = iter(sys.argv[1:]), []
    for word in words:
        if word in PATH_OPTIONS:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in PATH_OPTIONS)):
            kept.append(pathlib.Path(word).name if os.sep in word else word)
    return shlex.join(["python", "cli.py", *kept])


if __name__ == "__main__":
    main()
