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


HELP = """Weight pruning as a defence against membership inference, in NumPy or CuPy, with no framework.

\b
The paper's comparison:
python cli.py reproduce digits              all default methods on the embedded data set
python cli.py report results/digits         write its plots and page again
python cli.py data fetch mnist              download a data set and check it

\b
One model:
python cli.py train mnist --out model.h5
python cli.py import mine.onnx --data mine.npz --out model.h5       instead: a network from PyTorch
python cli.py prune model.h5 --keep 0.05 --out pruned.h5            MIA-Pruning
python cli.py attack pruned.h5 --dense model.h5                     attacks with shadow models
python cli.py export pruned.h5 --to onnx --out pruned.onnx          also C, safetensors, a web page
python cli.py shrink filters.h5 --out small.h5                      remove pruned filters and channels
python cli.py info resnet18                                         layers of a network or model file

\b
Predictions of any model, from any framework:
python cli.py audit scores.npz              attacks without shadow models
python cli.py predict model.h5 --out scores.npz                     the predictions of a model file

\b
Differential privacy:
python cli.py epsilon --records 60000 --batch 240 --noise 1.3 --epochs 15    the epsilon of DP-SGD
python cli.py canaries model.h5             a lower bound on epsilon, after `train --canaries`

\b
Others:
python cli.py verify                        check every formula against an independent calculation
python cli.py learn check 3                 grade the exercises of chapter 3 of the book
python cli.py task tasks/*.json --store DIR    run tasks of `attack --plan` or `reproduce --plan`
python cli.py completion bash               completion for bash
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
