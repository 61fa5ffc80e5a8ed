"""A whole audit with reference models: train all of them, score every record; nanoprune against PyTorch, in two ways.

    python benchmarks/audit_peer.py [small location30 mnist cifar10] [--times 3]

Each contestant is one process that is given the records, who trains on what, and the recipe; it trains the reference
models and prints the AUC of LiRA with one common variance, by which to see that all do the same work.

nanoprune      `cli.py attack MODEL --shadows N --attacks lira_online`, reading the data and writing the results too
a loop         the way of Privacy Meter (github.com/privacytrustlab/ml_privacy_meter, trainers/default_trainer.py and
               dataset/utils.py of 2025), rewritten, not copied: a module, a DataLoader that collates single records in
               four processes, the loss read after each step, one model after the other
for speed      batches cut from tensors, multi-tensor SGD, one process with one thread for each processor

Contestants take turns. A loop takes minutes, so one round is the default; ratios are those of one run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from lenet5_step import Peer
from resnet18_step import peer as resnet18
from torch.nn import functional
from torch.utils.data import DataLoader, Subset, TensorDataset

from nanoprune.attack.metrics import auc
from nanoprune.lab.audit.shadows import design, make_pool, outputs
from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.workflow.single_model import train_model

CLI = pathlib.Path(__file__).resolve().parents[1] / "cli.py"
CASES = {  # words, data set, changes of its recipe, and the number of reference models
    "small": ("MLP 446-128-30, as Privacy Meter's, 1,500 members", "location30", {"widths": [128]}, 34),
    "location30": ("MLP 446-512-256-128-30, 1,500 members", "location30", {}, 34),
    "mnist": ("LeNet-5, 1,000 members", "mnist", {}, 16),
    "cifar10": ("ResNet18, an eighth of its channels, 2,500 members", "cifar10", {"members": 2500, "widths": 0.125}, 6),
}
NETWORKS = {
    "small": lambda: dense(446, 128, 30),
    "location30": lambda: dense(446, 512, 256, 128, 30),
    "mnist": Peer,
    "cifar10": lambda: resnet18(8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A whole audit with reference models, here and in PyTorch.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--times", type=int, default=1, help="rounds")
    options = parser.parse_args()
    print("| target | models | nanoprune | a loop | ratio | for speed | ratio | AUC of the three |")
    print("| :--- | ---: | ---: | ---: | ---: | ---: | ---: | :--- |")
    for name in options.names or CASES:
        words, data, changes, count = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            model, job, found = (f"{folder}/{part}" for part in ("model.h5", "job.npz", "found.json"))
            dataset = load(data)
            save_model(train_model(dataset, recipe_for(dataset, minmax=0.0, **changes), 0, default_threads()), model)
            write_job(model, count, job)
            attack = [CLI, "attack", model, "--shadows", count, "--attacks", "lira_online", "--json", found]
            ways = [[*attack, "--overwrite"], [__file__, "--loop", name, job], [__file__, "--speed", name, job]]
            rounds = [[run(*way) for way in ways] for _ in range(options.times)]
            ours = json.loads(pathlib.Path(found).read_text())["attacks"]["lira_online"]["auc"]["value"]
        took = np.array([[seconds for seconds, _ in row] for row in rounds])  # (rounds, 3)
        seconds, ratios = np.median(took, axis=0), np.median(took[:, :1] / took, axis=0)
        aucs = ", ".join(f"{value:.3f}" for value in (ours, *(float(printed) for _, printed in rounds[0][1:])))
        row = [
            f"{seconds[0]:.1f} s",
            f"{seconds[1]:.0f} s",
            f"{ratios[1]:.3f}",
            f"{seconds[2]:.1f} s",
            f"{ratios[2]:.2f}",
        ]
        print(f"| {words} | {count} | {' | '.join(row)} | {aucs} |", flush=True)


def run(*command: object) -> tuple[float, str]:
    """Seconds of a Python command, and what it printed last."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, done.stdout.strip().rpartition("\n")[2]


def write_job(model: str, count: int, path: str) -> None:
    """What the peers get: the records that are scored (PyTorch's layout), who trains on which, the recipe, and the
    target's log odds."""
    target = load_model(model)
    dataset = load(target.dataset)
    pool, step = make_pool(target, dataset), target.steps[0]
    x = dataset.x[pool.scored]
    logits = outputs(target.net, dataset, pool.scored, default_threads())[0]  # (n, classes)
    np.savez(
        path,
        x=x.transpose(0, 2, 1, 3) if x.ndim == 4 else x,  # ours are (n, H, C, W)
        y=dataset.y[pool.scored].astype(np.int64),
        member=pool.member,
        inside=design(len(pool.scored), count, np.random.default_rng(0)),  # (K, n)
        phi=log_odds(torch.tensor(logits), torch.tensor(dataset.y[pool.scored].astype(np.int64))),
        **{key: step[key] for key in ("epochs", "batch", "lr", "momentum", "weight_decay")},
    )


def log_odds(logits: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """log p_y / (1 - p_y), (n,)."""
    own = logits.double().gather(1, y[:, None])[:, 0]
    others = logits.double().scatter(1, y[:, None], -np.inf).logsumexp(1)
    return (own - others).numpy()


def as_a_loop(name: str, job: dict[str, np.ndarray]) -> np.ndarray:
    """Log odds (K, n) of reference models that are trained one after the other, from a DataLoader of single records."""
    records, found = TensorDataset(torch.tensor(job["x"]), torch.tensor(job["y"])), []
    of_loader = {"batch_size": int(job["batch"]), "num_workers": 4, "persistent_workers": True, "prefetch_factor": 16}
    for inside in job["inside"]:
        net, criterion = NETWORKS[name](), torch.nn.CrossEntropyLoss()
        optimizer = sgd(net, job)
        loader = DataLoader(Subset(records, np.flatnonzero(inside).tolist()), shuffle=True, **of_loader)
        for _ in range(int(job["epochs"])):
            net.train()
            total, right = 0.0, 0
            for x, y in loader:
                optimizer.zero_grad(set_to_none=True)
                output = net(x)
                loss = criterion(output, y)
                loss.backward()
                optimizer.step()
                total += loss.item()
                right += output.argmax(dim=1).eq(y).sum().item()
        net.eval()
        with torch.no_grad():
            odds = [log_odds(net(x), y) for x, y in DataLoader(records, shuffle=False, **of_loader)]
        found.append(np.concatenate(odds))
    return np.array(found)


def for_speed(name: str, job: dict[str, np.ndarray]) -> np.ndarray:
    """Log odds (K, n) of reference models that are divided among single-threaded processes."""
    with multiprocessing.get_context("fork").Pool(default_threads(), torch.set_num_threads, (1,)) as pool:
        return np.array(pool.starmap(trained, [(name, job, k) for k in range(len(job["inside"]))], chunksize=1))


def trained(name: str, job: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Log odds (n,) of one reference model."""
    x, y, batch = torch.tensor(job["x"]), torch.tensor(job["y"]), int(job["batch"])
    rows = torch.tensor(np.flatnonzero(job["inside"][k]))
    net = NETWORKS[name]()
    optimizer = sgd(net, job, foreach=True)
    for _ in range(int(job["epochs"])):
        for index in rows[torch.randperm(len(rows))].split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        return np.concatenate([log_odds(net(x[part]), y[part]) for part in torch.arange(len(x)).split(256)])


def dense(*widths: int) -> torch.nn.Sequential:
    layers = [(torch.nn.Linear(*sizes), torch.nn.ReLU()) for sizes in itertools.pairwise(widths)]
    return torch.nn.Sequential(*[part for layer in layers for part in layer][:-1])


def sgd(net: torch.nn.Module, job: dict[str, np.ndarray], **options: bool) -> torch.optim.SGD:
    settings = {key: float(job[key]) for key in ("lr", "momentum", "weight_decay")}
    return torch.optim.SGD(net.parameters(), **settings, **options)


def peer(way: str, name: str, path: str) -> None:
    """Train, score by LiRA with one variance of all records, and print the AUC."""
    with np.load(path) as file:
        job = dict(file)
    phi = {"--loop": as_a_loop, "--speed": for_speed}[way](name, job)  # (K, n)
    inside = job["inside"]
    means = [np.where(side, phi, 0).sum(0) / side.sum(0) for side in (inside, ~inside)]
    variances = [
        (np.where(side, phi - mean, 0) ** 2).sum() / side.sum()
        for side, mean in zip((inside, ~inside), means, strict=True)
    ]
    fits = [-((job["phi"] - mean) ** 2) / (2 * of) - np.log(of) / 2 for mean, of in zip(means, variances, strict=True)]
    scores = fits[0] - fits[1]
    print(auc(scores[job["member"]], scores[~job["member"]]))


if __name__ == "__main__":
    if sys.argv[1:2] in (["--loop"], ["--speed"]):
        peer(*sys.argv[1:])
    else:
        main()
