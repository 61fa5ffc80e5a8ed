"""The model card, in the format of model hubs: Markdown with YAML metadata, and the same as JSON.

Every figure is measured or comes from an audit of these weights; unknown figures are marked as such.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from nanoprune.lab.export.about import verdict
from nanoprune.lab.export.check import probes_of
from nanoprune.nn import Network, Workspace

RUNS = 30  # of the latency


def measured(net: Network, runs: int = RUNS) -> dict[str, Any]:
    """The cost of a network, plain data.

    weights, nonzero, parameters: counts.

    bytes: of all parameters in float32; packed_bytes: approximately, of the ONNX form without zeros, weights and biases
    only. latency_ms: the median of `runs` dense predictions of one record; sparse_latency_ms: by `sparse`.
    """
    from nanoprune.lab.export.sparse import SparseModel

    x = probes_of(net, 1)
    first = np.moveaxis(x, 0, -1).astype(net.theta.dtype)
    ours = np.ascontiguousarray(first.swapaxes(0, 1) if first.ndim == 4 else first)[None]
    ws, sparse = Workspace(training=False), SparseModel(net)
    nonzero = int(net.nonzero()[0])
    packed = 5 * nonzero + 4 * (net.size - net.weight_count)
    return {
        "bytes": 4 * net.size,
        "packed_bytes": min(4 * net.size, packed),
        "weights": net.weight_count,
        "nonzero": nonzero,
        "parameters": net.size,
        "latency_ms": median_ms(lambda: net.forward(ours, ws), runs),
        "sparse_latency_ms": median_ms(lambda: sparse.logits(x), runs),
    }


def median_ms(call: Any, runs: int) -> float:
    call()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return round(1e3 * float(np.median(seconds)), 3)


def card(about: dict[str, Any], costs: dict[str, Any], data: str, name: str) -> tuple[str, str]:
    """(Markdown, JSON) of a model card.

    about: the metadata of `about.about`, with the audit if there is one. costs: of `measured`. data: the training data
    as the author describes it. name: of the model.
    """
    audit = about.get("audit")
    test = audit["test_accuracy"] if audit else {}
    kept = costs["nonzero"] / max(costs["weights"], 1)
    record = {
        "name": name,
        "data": data,
        "network": about["architecture"],
        "weights": {"all": costs["weights"], "nonzero": costs["nonzero"], "stored_as": about["weights"]},
        "input": about["input"],
        "labels": about["labels"],
        "licence": about["licence"],
        "audit": audit,
        "verdict": verdict(audit),
        "cost": costs,
        "nanoprune": about["nanoprune"],
    }
    accuracy = (
        f"test {test['value']:.1f}% ({test['low']:.1f} to {test['high']:.1f}%), train {audit['train_accuracy']:.1f}%"
        if audit
        else "not measured: export with --audit"
    )
    text = f"""---
license: {json.dumps(about["licence"])}
library_name: nanoprune
pipeline_tag: {"image-classification" if len(about["architecture"]["input_shape"]) == 3 else "tabular-classification"}
tags: [pruning, membership-inference]
---

# {name}

| | |
|---|---|
| data | {data.replace("|", "/")} |
| network | {about["network"]}, {about["architecture"]["classes"]} classes |
| input | {about["input"]} |
| weights | {costs["nonzero"]:,} of {costs["weights"]:,} ({100 * kept:.1f}%), {about["weights"].split(";")[0]} |
| accuracy | {accuracy} |
| bytes | {costs["bytes"]:,} dense, about {costs["packed_bytes"]:,} without zeros |
| latency, one record, in Python | {costs["latency_ms"]:g} ms dense, {costs["sparse_latency_ms"]:g} ms sparse |
| licence | {about["licence"]} |

## What it reveals about its training data

{verdict(audit)}
{audit_words(audit)}
## How to repeat

Made with nanoprune {about["nanoprune"]}: `train`, `prune`, `attack MODEL --json audit.json`, `prune --release` or
`export MODEL --audit audit.json`. Seed, split and data files stay with the author: together they are the list of
the members.
"""
    return text, json.dumps(record, indent=1, allow_nan=False) + "\n"


def audit_words(audit: dict[str, Any] | None) -> str:
    """The attacks that were run, and the true-positive rates at low false-positive rates."""
    if audit is None:
        return ""
    rates = [
        f"{of['value']:.1f}% ({of['low']:.1f} to {of['high']:.1f}%) of the members at an FPR of {100 * float(rate):g}%"
        for rate, of in audit["tpr_at_fpr"].items()
    ]
    found = f" It finds {', '.join(rates)}." if rates else ""
    attacks = ", ".join(name.replace("_", " ") for name in audit["attacks"])
    return f"Intervals have a confidence of {100 * audit['confidence']:g}%.{found} Attacks that were run: {attacks}.\n"
