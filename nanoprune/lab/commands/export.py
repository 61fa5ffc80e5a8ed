"""A model file as a file for others."""

from __future__ import annotations

import pathlib

import click

from nanoprune.backend import use_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.common import check_outputs
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG, FILE, overwrite_option
from nanoprune.lab.commands.types import ExportTarget, Form

HELP = """Write the network of the model file MODEL in a format that needs no nanoprune.

What is written says nothing of the members: no data set, hash, seed or size of the split. onnx needs the extra
onnx, and is compared with the network before the file appears where onnxruntime is installed. --weights packed
stores only weights that are not zero; int8 rounds them to 8 bits with a scale for each output channel. An audit
goes with the weights that it was made of: for int8, `quantise` MODEL and `attack` the result first.

\b
python cli.py export pruned.h5 --to onnx --weights packed --out pruned.onnx
python cli.py export pruned.h5 --to c --weights packed --out lenet.c
python cli.py attack pruned.h5 --json audit.json
python cli.py export pruned.h5 --to onnx --audit audit.json --licence MIT --out pruned.onnx
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("model", type=FILE)
@click.option("--to", "target", required=True, type=ExportTarget(), help="onnx, c, safetensors, torch-code or web.")
@click.option("--weights", "form", type=Form(), default="dense", help="dense, packed (no zeros) or int8.")
@click.option("--out", required=True, type=FILE, help="The file to write.")
@click.option("--audit", type=FILE, help="What `attack MODEL --json` wrote: goes with it.  [default: none]")
@click.option(
    "--labels",
    type=FILE,
    help="Text file with a name for each class, one a line.  [default: numbers]",
)
@click.option("--audited", type=FILE, help="The audited file that MODEL was shrunk from.  [default: MODEL]")
@click.option("--licence", default="not stated", help="Of the weights, such as MIT.")
@click.option("--beside", type=FILE, help="web: a model file to show beside it.  [default: none]")
@click.option("--beside-audit", type=FILE, help="web: the audit of that one.  [default: none]")
@click.option(
    "--card", metavar="DATA", help="Write OUT.card.md and .json too; DATA: the training data in words.  [default: not]"
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
