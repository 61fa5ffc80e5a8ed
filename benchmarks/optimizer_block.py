"""One Adam step of the attack network by block size: the measurement behind `nanoprune.nn.blocks.BLOCK`.

python benchmarks/optimizer_block.py
"""

from collections.abc import Callable

import numpy as np
from measure import in_turn

from nanoprune.attack.attack_network import attacker
from nanoprune.nn import Adam, blocks

BLOCKS = [1024, 4096, 16384, 65536, 1 << 30]


def adam_step(block: int) -> Callable[[], None]:
    blocks.BLOCK = block
    h, adam = attacker(30).initialise([np.random.default_rng(0)]), Adam()
    h.grad[...] = np.random.default_rng(1).standard_normal(h.grad.shape)
    return lambda: adam.step(h, 1e-6)


if __name__ == "__main__":
    for block, times in zip(BLOCKS, in_turn(*((adam_step, block) for block in BLOCKS)), strict=True):
        name = f"{block:,} elements" if block < 1 << 30 else "one block"
        print(f"{name:>16}  {1e3 * times.median:.2f} ms (10-90%: {1e3 * times.low:.2f}-{1e3 * times.high:.2f})")
