"""The command line. Each command is a file here, which parses its options and calls one function of the package."""

from __future__ import annotations

import click

import nanoprune
from nanoprune.lab.commands.attack import attack
from nanoprune.lab.commands.audit import audit
from nanoprune.lab.commands.canaries import canaries
from nanoprune.lab.commands.completion import completion
from nanoprune.lab.commands.console import Commands
from nanoprune.lab.commands.data import data
from nanoprune.lab.commands.epsilon import epsilon
from nanoprune.lab.commands.export import export
from nanoprune.lab.commands.import_ import import_
from nanoprune.lab.commands.info import info
from nanoprune.lab.commands.learn import learn
from nanoprune.lab.commands.options import EPILOG
from nanoprune.lab.commands.predict import predict
from nanoprune.lab.commands.prune import prune
from nanoprune.lab.commands.quantise import quantise
from nanoprune.lab.commands.report import report
from nanoprune.lab.commands.reproduce import reproduce
from nanoprune.lab.commands.shrink import shrink
from nanoprune.lab.commands.task import task
from nanoprune.lab.commands.train import train
from nanoprune.lab.commands.verify import verify

__all__ = ["main"]


HELP = """Weight pruning as a defence against membership inference, on NumPy or CuPy, with hand-written passes.

\b
python cli.py reproduce digits              the comparison on the embedded data
python cli.py data fetch mnist              download and check a data set
python cli.py train mnist --out model.h5    one network
python cli.py prune model.h5 --keep 0.05 --out pruned.h5
python cli.py shrink filters.h5 --out small.h5  without pruned filters and channels: smaller, the same outputs
python cli.py attack pruned.h5              with shadow models trained as it was
python cli.py task tasks/*.json --store DIR  shadow models of an attack, on any number of machines
python cli.py canaries model.h5             a bound on epsilon from mislabelled records of `train --canaries`
python cli.py predict model.h5 --out scores.npz  its predictions, as audit takes them
python cli.py audit scores.npz              predictions of any model, from any framework
python cli.py report results/digits         the plots, the page and the table again
python cli.py import FILE --network resnet18 --out model.h5
python cli.py export pruned.h5 --to onnx --out pruned.onnx  or C, safetensors, a web page
python cli.py info resnet18                 the layers of a network or a model file
python cli.py epsilon --records 60000 --batch 240 --noise 1.3 --epochs 15  what DP-SGD spends
python cli.py verify                        every formula against an independent calculation
python cli.py learn check 3                 the exercises of the book, graded
python cli.py completion bash               what makes bash complete commands, options and names
"""


@click.group(cls=Commands, help=HELP, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nanoprune.__version__, prog_name="nanoprune")
def main() -> None:
    pass


for command in (
    reproduce,
    train,
    prune,
    shrink,
    report,
    predict,
    audit,
    attack,
    info,
    import_,
    epsilon,
    verify,
    data,
    completion,
):
    main.add_command(command)
for command in (export, quantise, learn, task, canaries):
    main.add_command(command)
