"""One Adam step of the attack network by block size, and compiled: behind `nanoprune.nn.formula.BLOCK`.

python benchmarks/optimizer_block.py
"""

from collections.abc import Callable

import numpy as np
from measure import in_turn
from training import fast

from nanoprune.attack.attack_network import attacker
from nanoprune.nn import Adam, formula

BLOCKS = [1024, 4096, 16384, 65536, 1 << 30]


def adam_step(block: int) -> Callable[[], None]:
    formula.BLOCK = block
    h, adam = attacker(30).initialise([np.random.default_rng(0)]), Adam()
    h.grad[...] = np.random.default_rng(1).standard_normal(h.grad.shape)
    return lambda: adam.step(h, 1e-6)


if __name__ == "__main__":
    names = [f"{block:,} elements" if block < 1 << 30 else "one block" for block in BLOCKS]
    contestants = [*((adam_step, block) for block in BLOCKS), (fast, adam_step, BLOCKS[-1])]
    for name, times in zip([*names, "compiled"], in_turn(*contestants), strict=True):
        print(f"{name:>16}  {1e3 * times.median:.2f} ms (10-90%: {1e3 * times.low:.2f}-{1e3 * times.high:.2f})")
