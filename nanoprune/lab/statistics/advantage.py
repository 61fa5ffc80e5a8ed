"""Bounds on the advantage TPR - FPR that no attack exceeds. The balanced accuracy is (1 + advantage) / 2."""

from __future__ import annotations

import math

from nanoprune.errors import ArgumentError


def dp_advantage(epsilon: float, delta: float = 0.0) -> float:
    r"""The largest advantage against (epsilon, delta)-differential privacy (Humphries et al. 2020, arXiv 2010.12112):
    $$\text{adv} \le \frac{e^\epsilon - 1 + 2 \delta}{e^\epsilon + 1}.$$

    Privacy says TPR <= e^epsilon FPR + delta, and the same of the two kinds of errors, 1 - FPR and 1 - TPR. The
    advantage is largest where both hold with equality. Raises ArgumentError on a negative epsilon, a delta outside
    [0, 1].
    """
    if not epsilon >= 0 or not 0 <= delta <= 1:
        raise ArgumentError(f"epsilon must be at least 0 and delta lie in [0, 1], got {epsilon} and {delta}")
    inverse = math.exp(-epsilon)
    return (1 - inverse + 2 * delta * inverse) / (1 + inverse)


def compression_advantage(bits: float, records: int) -> float:
    r"""The largest advantage against a model of so many bits, trained on `records` independent ones:
    $$\text{adv} \le \sqrt{\text{bits} \ln 2 / (2 n)}, \quad \text{and at most 1}.$$

    Mean over the records and over training sets; the attack sees the model and one record. By Pinsker's inequality
    and $\sum_i I(W; Z_i) \le I(W; S) \le H(W) \le \text{bits} \ln 2$ (as in Xu & Raginsky 2017, arXiv 1705.07809).
    Raises ArgumentError on negative bits or fewer than one record.
    """
    if not bits >= 0 or records < 1:
        raise ArgumentError(f"bits must be at least 0 and records at least 1, got {bits} and {records}")
    return min(1.0, math.sqrt(bits * math.log(2) / (2 * records)))


def mask_bits(weights: int, kept: int) -> float:
    """log2 of the number of supports: what it takes to say which `kept` of so many weights are not zero."""
    if not 0 <= kept <= weights:
        raise ArgumentError(f"kept must lie in 0..{weights}, got {kept}")
    return (math.lgamma(weights + 1) - math.lgamma(kept + 1) - math.lgamma(weights - kept + 1)) / math.log(2)
