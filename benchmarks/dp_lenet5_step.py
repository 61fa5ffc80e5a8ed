"""One step of DP-SGD of LeNet-5, nanoprune against Opacus in the fastest of its modes, and against an ordinary step.

All train the same network on the same random batch with the same number of threads, interleaved, each in a separate
process: the gradient of each record clipped to 1.5, noise for every parameter, SGD with momentum. The time to draw a
batch is not included.

    python benchmarks/dp_lenet5_step.py [BATCH ...]
"""

import sys
import warnings
from collections.abc import Callable

import torch
from lenet5_step import Peer
from measure import in_turn, report
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset
from training import fast, lenet5_private_step, lenet5_step, random_batch

from nanoprune.lab.engine.passes import default_threads

MODES = ("hooks", "functorch", "ghost")


def opacus_step(batch: int, threads: int, mode: str) -> Callable[[], None]:
    warnings.simplefilter("ignore")  # of Opacus' own
    torch.set_num_threads(threads)
    x, y = random_batch(batch)
    inputs, labels = torch.tensor(x).permute(0, 2, 1, 3).contiguous(), torch.tensor(y)  # (N, C, H, W)
    net = Peer()
    optimizer, criterion = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9), torch.nn.CrossEntropyLoss()
    made = PrivacyEngine(accountant="rdp").make_private(
        module=net,
        optimizer=optimizer,
        criterion=criterion,
        data_loader=DataLoader(TensorDataset(inputs, labels), batch_size=batch),
        noise_multiplier=1.0,
        max_grad_norm=1.5,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    net, optimizer = made[:2]
    if mode == "ghost":
        criterion = made[2]

    def step() -> None:
        optimizer.zero_grad()
        criterion(net(inputs), labels).backward()
        optimizer.step()

    return step


def main(batches: list[int]) -> None:
    threads = default_threads()
    for batch in batches:
        contestants = [(opacus_step, batch, threads, mode) for mode in MODES]
        steps = [(lenet5_private_step, batch, threads), (lenet5_step, batch, threads)]
        ours, plain, compiled, *theirs = in_turn(*steps, (fast, *steps[0]), *contestants)
        for mode, times in zip(MODES, theirs, strict=True):
            print(f"opacus {mode:9} {1e3 * times.median:.1f} ms", flush=True)
        peer, name = min(zip(theirs, MODES, strict=True), key=lambda pair: pair[0].median)
        report(f"dp-lenet5-step-{batch}", ours, peer, f"opacus {name}", None)
        report(f"dp-lenet5-step-{batch} [fast]", compiled, peer, f"opacus {name}", None)
        report(f"dp-over-plain-{batch}", ours, plain, "nanoprune, not private", None)


if __name__ == "__main__":
    main([int(batch) for batch in sys.argv[1:]] or [256])
