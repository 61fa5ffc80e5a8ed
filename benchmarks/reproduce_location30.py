"""The whole of `reproduce location30`, nanoprune against the same algorithm in PyTorch; many minutes.

Both run once, one after the other, each in a separate process. The PyTorch program below takes recipe, splits and
data from nanoprune and does the same work: per seed the baseline, both controls of every ratio, the Min-Max game,
ADMM pruning without and with it, test accuracy after every epoch, and an attack network against each of them. Its
random streams differ, so the results agree only statistically; they are printed side by side. Both sides use
nanoprune's threshold attacks and scoring, which take little time. PyTorch does not do what nanoprune only records
(residuals, the adversary's loss), nor plots and report.

The two are not interleaved, so their times are comparable only on an otherwise idle machine. The ratio of the processor
seconds is printed too; where it differs much from the ratio of the times, the machine was not idle.

PyTorch runs in one single-threaded process per processor, networks one by one with the fused optimisers, longest jobs
first, without a barrier between methods. A fleet of networks in batched products (torch.baddbmm) took no less processor
time per step, needs two threads to be synchronised, and its networks cannot end independently.

    python benchmarks/reproduce_location30.py [--seeds N]
"""

import argparse
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
import torch
from measure import Times, report
from torch.nn import functional

from nanoprune.attack.network import MIN_PATIENCE, PATIENCE, RATES, held_out_share
from nanoprune.lab.data import Dataset, Split, load, make_split
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.experiment.evaluate import Outputs, evaluate, strongest
from nanoprune.lab.experiment.recipes import Keep, Recipe, keep_name, recipe_for
from nanoprune.lab.zoo import build, describe, narrowed
from nanoprune.prune.budget import count
from nanoprune.schedule import Schedule, learning_rate

BATCH = 64  # of the adversary's and the attack network's steps
ROOT = pathlib.Path(__file__).parents[1]
KEYS = ("train_accuracy", "test_accuracy", "network_accuracy", "strongest_attack_accuracy")
CONTROLS = ("early-stop", "small-dense")  # of each ratio
SHARES = ("known", "scored")  # of the split's records, by the attacker
data: Dataset  # one per process, set by `begin`
x: torch.Tensor  # (N, 446)
y: torch.Tensor  # (N,)
recipe: Recipe


def begin() -> None:
    """Set up a process before its first job."""
    global data, x, y, recipe
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = load("location30")
    x, y, recipe = torch.tensor(data.x), torch.tensor(data.y), recipe_for(data)


# --- the networks


def mlp(*widths: int, rectified: bool = False) -> torch.nn.Sequential:
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layer = torch.nn.Linear(inputs, outputs)
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        torch.nn.init.zeros_(layer.bias)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*(layers if rectified else layers[:-1]))


def classifier(widths: tuple[int, ...], theta: np.ndarray | None = None) -> torch.nn.Sequential:
    f = mlp(x.shape[1], *widths, data.classes)
    return f if theta is None else restore(f, theta)


def vector(f: torch.nn.Module) -> np.ndarray:
    """A copy of the parameters, for `restore`."""
    return torch.nn.utils.parameters_to_vector(f.parameters()).detach().numpy()


def restore(f: torch.nn.Module, theta: np.ndarray) -> torch.nn.Module:
    torch.nn.utils.vector_to_parameters(torch.tensor(theta), f.parameters())
    return f


class Attacker(torch.nn.Module):
    """h(p, y) of Nasr et al. 2018, as in nanoprune/attack/attack_network.py."""

    def __init__(self) -> None:
        super().__init__()
        self.prediction = mlp(data.classes, 1024, 512, 64, rectified=True)
        self.label = mlp(data.classes, 512, 64, rectified=True)
        self.joint = mlp(128, 256, 64, 1)
        torch.nn.init.zeros_(self.joint[-1].weight)
        self.unit = torch.eye(data.classes)

    def forward(self, p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Logits (N,) of membership from predictions p (N, classes) and labels y (N,)."""
        return self.joint(torch.cat([self.prediction(p), self.label(self.unit[y])], dim=1))[:, 0]


def adam(h: Attacker, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(h.parameters(), rate, fused=True)


# --- training: nanoprune/train.py, admm.py, minmax.py


class Game:
    def __init__(self, lam: float, members: torch.Tensor, reference: torch.Tensor) -> None:
        self.lam, self.members, self.reference, self.h = lam, members, reference, Attacker()
        self.optimizer = adam(self.h, 1e-3)
        self.is_member = torch.cat([torch.ones(BATCH), torch.zeros(BATCH)])

    def maximise(self, f: torch.nn.Module) -> None:
        index = torch.cat([rows[torch.randint(len(rows), (BATCH,))] for rows in (self.members, self.reference)])
        with torch.no_grad():
            p = f(x[index]).softmax(dim=1)
        self.optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(self.h(p, y[index]), self.is_member).backward()
        self.optimizer.step()

    def gain(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 0.5 * functional.logsigmoid(self.h(logits.softmax(dim=1), labels)).mean()


class ADMM:
    def __init__(self, W: list[torch.Tensor], keep: Keep) -> None:
        self.W, self.k = W, count(keep, sum(layer.numel() for layer in W))
        self.U = [torch.zeros_like(layer) for layer in W]
        self.offset = torch._foreach_sub(self.U, self.project(W))  # U - Z

    def project(self, W: list[torch.Tensor]) -> list[torch.Tensor]:
        """Keep the k largest magnitudes of all layers together, and zero the others."""
        flat = torch.cat([layer.flatten() for layer in W])
        largest = flat.abs().topk(self.k, sorted=False).indices
        parts = torch.zeros_like(flat).index_copy_(0, largest, flat[largest]).split([layer.numel() for layer in W])
        return [part.view_as(layer) for part, layer in zip(parts, W, strict=True)]

    def add_penalty_gradient(self, dW: list[torch.Tensor]) -> None:
        for term in (self.W, self.offset):
            torch._foreach_add_(dW, term, alpha=recipe.admm.rho)

    def update(self) -> None:
        Z = self.project(torch._foreach_add(self.W, self.U))
        torch._foreach_add_(self.U, torch._foreach_sub(self.W, Z))
        self.offset = torch._foreach_sub(self.U, Z)


def weights(f: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach() for p in f.parameters() if p.ndim == 2]  # they share the memory of the parameters


def train(
    f: torch.nn.Module,
    split: Split,
    plan: Schedule,
    game: Game | None = None,
    admm: ADMM | None = None,
    mask: list[torch.Tensor] | None = None,
    epochs: int | None = None,
) -> list[float]:
    """Train f in place; return its test accuracy after each epoch."""
    parameters = list(f.parameters())
    optimizer = torch.optim.SGD(parameters, plan.lr, plan.momentum, weight_decay=plan.weight_decay, fused=True)
    rate, members, curve = learning_rate(plan.decay, plan.lr, plan.epochs), torch.tensor(split.members), []
    for epoch in range(epochs or plan.epochs):
        optimizer.param_groups[0]["lr"] = rate(epoch)
        total = 0.0
        for index in members[torch.randperm(len(members))].split(plan.batch):
            if game:
                game.maximise(f)
            logits = f(x[index])
            loss = functional.cross_entropy(logits, y[index])
            total += loss.detach()
            if game:
                loss = loss + game.lam * game.gain(logits, y[index])
            gradient = torch.autograd.grad(loss, parameters)
            dW = [g for g in gradient if g.ndim == 2]
            if admm:
                admm.add_penalty_gradient(dW)
            if mask:
                torch._foreach_mul_(dW, mask)
            for p, g in zip(parameters, gradient, strict=True):
                p.grad = g
            optimizer.step()
        if not math.isfinite(total):
            raise FloatingPointError(f"the loss is {total} in epoch {epoch + 1}")
        if admm and (epoch + 1) % (plan.epochs // recipe.admm.iterations) == 0:
            admm.update()
        curve.append(accuracy(f, split.nonmembers))
    return curve


@torch.inference_mode()
def accuracy(f: torch.nn.Module, rows: np.ndarray) -> float:
    index = torch.tensor(rows)
    return (f(x[index]).argmax(dim=1) == y[index]).float().mean().item()


# --- the jobs: each one network of one seed


def split_of(seed: int) -> Split:
    return make_split(data, recipe.members, recipe.reference, recipe.nonmembers, seed)


def game_of(split: Split, lam: float) -> Game | None:
    return Game(lam, torch.tensor(split.members), torch.tensor(split.reference)) if lam else None


def dense(seed: int, widths: tuple[int, ...], lam: float = 0.0, epochs: int | None = None) -> tuple:
    """Parameters and test accuracies of an ordinary network; equal seeds give equal initial weights and batches."""
    torch.manual_seed(seed)
    f, split = classifier(widths), split_of(seed)
    curve = train(f, split, recipe.dense, game_of(split, lam), epochs=epochs)
    return vector(f), curve


def pruned(seed: int, theta: np.ndarray, keep: Keep, lam: float = 0.0) -> tuple:
    """The same of a dense network, pruned by ADMM, once hard, and retrained."""
    torch.manual_seed(seed)
    f, split = classifier(recipe.widths, theta), split_of(seed)
    game, admm = game_of(split, lam), ADMM(weights(f), keep)
    curve = train(f, split, recipe.prune, game, admm)
    torch._foreach_copy_(weights(f), admm.project(weights(f)))
    mask = [(layer != 0).float() for layer in weights(f)]
    curve += train(f, split, recipe.retrain, game, mask=mask)
    return vector(f), curve


def attack(seed: int, theta: np.ndarray, widths: tuple[int, ...]) -> dict[str, Any]:
    """The classifier's predictions for the attacker's records and the scored ones, and an attack network's logits."""
    torch.manual_seed(seed)
    f, split = classifier(widths, theta), split_of(seed)
    found = {part: accuracy(f, getattr(split, part)) for part in ("members", "nonmembers")}
    for share in SHARES:
        index = np.concatenate([getattr(split, f"{share}_{part}") for part in ("members", "nonmembers")])
        with torch.inference_mode():
            found[share] = f(x[index]).double().softmax(dim=1).numpy(), y[index].numpy()
    member = np.repeat([True, False], [len(split.known_members), len(split.known_nonmembers)])
    h = fit(*found["known"], member)
    with torch.inference_mode():
        for share in SHARES:
            p, labels = map(torch.tensor, found[share])
            found[f"{share}_logits"] = h(p.float(), labels).double().numpy()
    return found


def fit(p: np.ndarray, labels: np.ndarray, member: np.ndarray) -> Attacker:
    """The attack network: stages of decreasing rate, each from the best so far, until held-out loss stops falling."""
    held_out = torch.tensor(held_out_share(member))
    rows, t, own = torch.tensor(p).float(), torch.tensor(labels), torch.tensor(member).float()
    testing, testing_t, inside = rows[held_out], t[held_out], own[held_out] == 1
    h, training = Attacker(), (~held_out).nonzero()[:, 0]
    patience = max(MIN_PATIENCE, math.ceil(PATIENCE / math.ceil(len(training) / BATCH)))

    @torch.inference_mode()
    def held_out_loss() -> float:
        z = h(testing, testing_t).double()
        return 0.5 * (functional.softplus(-z[inside]).mean() + functional.softplus(z[~inside]).mean()).item()

    lowest, best = held_out_loss(), vector(h)
    for rate in RATES:
        optimizer, stale = adam(restore(h, best), rate), 0
        while stale < patience:
            for index in training[torch.randperm(len(training))].split(BATCH):
                optimizer.zero_grad()
                functional.binary_cross_entropy_with_logits(h(rows[index], t[index]), own[index]).backward()
                optimizer.step()
            loss = held_out_loss()
            stale = 0 if loss < lowest else stale + 1
            if loss < lowest:
                lowest, best = loss, vector(h)
    return restore(h, best)


# --- the whole


def reproduce(seeds: range, threads: int) -> dict[str, dict[str, list[float]]]:
    """Every method trained and attacked by PyTorch: method -> its accuracies, one per seed."""
    begin()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(threads, context, initializer=begin) as pool:
        nets = train_methods(seeds, pool.submit)
        attacks = {job: pool.submit(attack, job[1], *net) for job, net in nets.items()}
        found = {job: future.result() for job, future in attacks.items()}
    methods = sorted({method for method, _ in found})
    rows = [found[method, seed] for method in methods for seed in seeds]
    member = np.repeat([True, False], len(rows[0]["known"][1]) // 2)
    known, scored = (Outputs(*map(np.stack, zip(*(r[share] for r in rows), strict=True)), member) for share in SHARES)
    logits = tuple(np.stack([r[f"{share}_logits"] for r in rows]) for share in SHARES)
    with mock.patch("nanoprune.lab.experiment.evaluate._network_scores", return_value=logits):
        outcomes = evaluate(known, scored, [])
    results = {}
    for i, method in enumerate(methods):
        of = slice(i * len(seeds), (i + 1) * len(seeds))
        own = {name: outcome.of(of) for name, outcome in outcomes.items()}
        results[method] = {
            "train_accuracy": [r["members"] for r in rows[of]],
            "test_accuracy": [r["nonmembers"] for r in rows[of]],
            "network_accuracy": own["network"].accuracy.tolist(),
            "strongest_attack_accuracy": own[strongest(own)].accuracy.tolist(),
        }
    return results


def train_methods(seeds: range, submit: Callable[..., Future]) -> dict[tuple[str, int], tuple]:
    """(method, seed) -> parameters and widths of its network. Jobs start in the order in which they are submitted."""
    widths, jobs = recipe.widths, {}
    names = [keep_name(keep) for keep in recipe.keep]
    ratios = list(zip(recipe.keep, names, ["", *(f"-{name}" for name in names[1:])], strict=True))
    description = describe(recipe.network, data.x.shape[1:], data.classes, list(widths))
    size = build(description, replicas=0).weight_count

    def start(method: str, seed: int, job: Callable, *arguments: Any, widths: tuple[int, ...] = widths) -> None:
        jobs[method, seed] = submit(job, seed, *arguments), widths

    for seed in seeds:
        start("baseline", seed, dense, widths)
    for (lam, game), seed in itertools.product([(recipe.minmax, "+minmax"), (0.0, "")], seeds):  # the longest first
        if lam:
            start("minmax", seed, dense, widths, lam)
        theta, _ = jobs["baseline", seed][0].result()
        for keep, name, _ in ratios:
            start(f"prune-{name}{game}", seed, pruned, theta, keep, lam)
    for (keep, _, suffix), seed in itertools.product(ratios, seeds):
        capped = tuple(narrowed(description, count(keep, size))["widths"])
        start(f"small-dense{suffix}", seed, dense, capped, widths=capped)
    for (_, name, suffix), seed in itertools.product(ratios, seeds):
        target = jobs[f"prune-{name}", seed][0].result()[1][-1]
        curve = jobs["baseline", seed][0].result()[1]
        epochs = next((epoch for epoch, reached in enumerate(curve, 1) if reached >= target), len(curve))
        start(f"early-stop{suffix}", seed, dense, widths, 0.0, epochs)
    return {job: (future.result()[0], widths) for job, (future, widths) in jobs.items()}


# --- the comparison


def names_of_methods(recipe: Recipe) -> list[str]:
    """The methods that the PyTorch program has."""
    keeps = [keep_name(keep) for keep in recipe.keep]
    controls = [f"{kind}{suffix}" for suffix in ["", *(f"-{keep}" for keep in keeps[1:])] for kind in CONTROLS]
    pruned = [f"prune-{keep}{game}" for keep in keeps for game in ("", "+minmax")]
    return ["baseline", *controls, "minmax", *pruned]


def timed(command: list[str]) -> tuple[float, float]:
    """The seconds of the command, and the processor seconds of it and its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(seeds: int) -> None:
    usual = recipe_for(load("location30"))  # raises DataError, before the work, where the data are missing
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder)
        given = ["--seeds", str(seeds), "--methods", ",".join(names_of_methods(usual)), "--out", folder]
        ours, our_cpu = timed([str(ROOT / "cli.py"), "reproduce", "location30", *given])
        methods = json.loads((out / "results.json").read_text())["methods"]
        peer, peer_cpu = timed([__file__, "--seeds", str(seeds), "--peer", str(out / "peer.json")])
        theirs = json.loads((out / "peer.json").read_text())
    print(f"{'percent, mean of the seeds':26} {'train':>14} {'test':>14} {'network':>14} {'strongest':>14}")
    for method, entry in methods.items():
        found = entry | {"network_accuracy": entry["attacks"]["network"]["accuracy"]}
        pairs = [(found[key]["mean"], np.mean(theirs[method][key])) for key in KEYS]
        print(f"{method:26}", *(f"{100 * a:7.1f}{100 * b:7.1f}" for a, b in pairs))
    print(f"nanoprune {ours:.0f} s, PyTorch {peer:.0f} s: ratio {ours / peer:.2f}")
    print(f"processor seconds {our_cpu:.0f} and {peer_cpu:.0f}: ratio {our_cpu / peer_cpu:.2f}")
    report(
        f"reproduce-location30{'' if seeds == 5 else f', {seeds} seeds'}",
        Times(ours, ours, ours),
        Times(peer, peer, peer),
        "torch processes",
        None,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer", type=pathlib.Path, help="only PyTorch, its results to this file")
    options = parser.parse_args()
    if options.peer:
        options.peer.write_text(json.dumps(reproduce(range(options.seeds), default_threads())))
    else:
        compare(options.seeds)
