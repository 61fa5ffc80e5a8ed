"""The budget of a training with DP-SGD."""

from __future__ import annotations

import click

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG

HELP = """Print the epsilon of a training with DP-SGD, or the noise that an --epsilon needs.

The last line is the number alone.

\b
python cli.py epsilon --records 60000 --batch 240 --noise 1.3 --epochs 15
python cli.py epsilon --records 1000 --batch 100 --epochs 30 --epsilon 8
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.option("--records", type=click.IntRange(1), required=True, help="Number of training records.")
@click.option("--batch", type=click.IntRange(1), required=True, help="Expected batch size of Poisson sampling.")
@click.option(
    "--epochs", type=click.IntRange(1), required=True, help="Number of epochs, of round(records / batch) steps each."
)
@click.option("--noise", type=float, help="Noise multiplier: standard deviation / clipping norm.  [this or --epsilon]")
@click.option("--epsilon", "target", type=float, help="Find the noise for this epsilon.  [this or --noise]")
@click.option("--delta", type=float, default=1e-5, help="delta of the budget, below 1 / records.")
def epsilon(records: int, batch: int, epochs: int, noise: float | None, target: float | None, delta: float) -> None:
    from nanoprune.lab.privacy.accounting import delta_warning, noise_for, phase, statement

    if (noise is None) == (target is None):
        raise ArgumentError("one of --noise and --epsilon must be given")
    if noise is None:
        noise = noise_for(target, delta, [phase(records, batch, 0.0, epochs)])
    steps = phase(records, batch, noise, epochs)
    spent = statement([steps], delta, clip=1.0, clipping="flat", seeded=False, mask="none")
    if warning := delta_warning(delta, records):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"mechanism: {spent['mechanism']}")
    click.echo(f"sampling: Poisson, each record with probability {steps.sampling:g}, {steps.steps:,} steps")
    click.echo(f"noise: {noise:.6g} times the clip")
    click.echo(f"neighbours: {spent['neighbours']}")
    click.echo(f"covers: {spent['covers']}")
    click.echo(f"does not cover: {spent['does_not_cover']}")
    tight = "RDP, the tighter bound here" if spent["epsilon"] == spent["epsilon_rdp"] else "PLD"
    for name, by in (("epsilon", tight), ("epsilon_rdp", "RDP, a cross-check")):
        none = "infinite, there is no noise" if noise == 0 else "infinite, with so little noise"
        value = none if spent[name] is None else f"{spent[name]:.4g}"
        click.echo(f"epsilon at delta {delta:g} by {by}: {value}")
    answer = noise if target is not None else float("inf") if spent["epsilon"] is None else spent["epsilon"]
    click.echo(f"{answer:.8g}")
