"""Export of a model file."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_outputs
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG, FILE, overwrite_option
from nanoprune.lab.commands.types import ExportTarget, Form

HELP = """Export the network of the model file MODEL to a format that does not need nanoprune.

An export identifies no member: it has no data set, hash, seed or split size. --to onnx needs the extra onnx; where
onnxruntime is installed, its outputs are compared with the network's before the file is written.

--weights packed stores only nonzero weights; int8 rounds them to 8 bits with one scale per output channel. An audit is
valid only for the audited weights: for int8, `quantise` MODEL first and `attack` the result.

\b
python cli.py export pruned.h5 --to onnx --weights packed --out pruned.onnx
python cli.py export pruned.h5 --to c --weights packed --out lenet.c
python cli.py attack pruned.h5 --json audit.json
python cli.py export pruned.h5 --to onnx --audit audit.json --licence MIT --out pruned.onnx
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@click.option(
    "--to", "target", required=True, type=ExportTarget(), help="Format: onnx, c, safetensors, torch-code or web."
)
@click.option(
    "--weights",
    "form",
    type=Form(),
    default="dense",
    help="How weights are stored: dense, packed (without zeros) or int8.",
)
@click.option("--out", required=True, type=FILE, help="The file to write.")
@click.option(
    "--audit", type=FILE, help="Audit to include: the file that `attack MODEL --json` wrote.  [default: none]"
)
@click.option(
    "--labels",
    type=FILE,
    help="Text file with the class names, one per line.  [default: those of the model, else numbers]",
)
@click.option("--audited", type=FILE, help="The audited model file that MODEL was shrunk from.  [default: MODEL]")
@click.option("--licence", default="not stated", help="Licence of the weights, such as MIT.")
@click.option("--beside", type=FILE, help="web: second model file to show for comparison.  [default: none]")
@click.option("--beside-audit", type=FILE, help="web: audit of the second model.  [default: none]")
@click.option(
    "--card",
    metavar="DATA",
    help="Also write a model card, OUT.card.md and OUT.card.json; DATA describes the training data.  [default: none]",
)
@overwrite_option
def export(
    model: pathlib.Path,
    target: str,
    form: str,
    out: pathlib.Path,
    audit: pathlib.Path | None,
    audited: pathlib.Path | None,
    labels: pathlib.Path | None,
    licence: str,
    beside: pathlib.Path | None,
    beside_audit: pathlib.Path | None,
    card: str | None,
    overwrite: bool,
) -> None:
    from nanoprune.lab.export import export_model, write_files
    from nanoprune.lab.export.about import about, check_shrunk, read_audit, read_labels
    from nanoprune.lab.export.export import web_page
    from nanoprune.lab.export.quantise import is_quantised
    from nanoprune.lab.export.release import card_files
    from nanoprune.lab.models.model import load_model

    use_device("cpu")
    if beside and target != "web":
        raise ArgumentError(f"--beside is for web, not for {target}; leave the option out")
    read = load_model(model)
    check_outputs(model, outputs=[out], overwrite=overwrite)
    if audited:
        check_shrunk(read, load_model(audited), audited)
    summary = read_audit(audit, audited or model) if audit else None
    if audit and form == "int8" and not is_quantised(read.net):
        raise ArgumentError(
            f"{audit} is of {model}'s float32 weights, int8 has others; `quantise` {model}, `attack` and export that"
        )
    names = read_labels(labels) if labels else None
    told = about(read, form, summary, names, licence)
    files, compared = export_model(read.net, target, form, told, out)
    if beside:
        other = load_model(beside)
        theirs = about(other, "dense", read_audit(beside_audit, beside) if beside_audit else None, names, licence)
        files, compared = web_page([(read.net, form, told), (other.net, "dense", theirs)], out)
    if card:
        files |= card_files(read, out, told, card)
    write_files(files, overwrite)
    for path, data in files.items():
        click.echo(f"{path}: {len(data):,} bytes")
    click.echo(compared)
