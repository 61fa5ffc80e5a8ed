"""The command `audit` on 100,000 records of 100 classes: total time and peak memory, with reading and report.

python benchmarks/audit_scale.py [RECORDS CLASSES [OPTION OF audit ...]]
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

CLI = pathlib.Path(__file__).parents[1] / "cli.py"


def predictions(records: int, classes: int) -> dict[str, np.ndarray]:
    """Logits that are more confident for members, by an exponentially distributed amount."""
    rng = np.random.default_rng(0)
    y, member = rng.integers(0, classes, records), np.arange(records) < records // 2
    z = rng.normal(0, 1, (records, classes)).astype(np.float32)  # (n, classes)
    z[np.arange(records), y] += 2 + member * rng.exponential(1, records)
    return {"target_logits": z, "target_labels": y, "target_member": member}


if __name__ == "__main__":
    records, classes = map(int, sys.argv[1:3]) if len(sys.argv) > 1 else (100_000, 100)
    with tempfile.TemporaryDirectory() as folder:
        scores = f"{folder}/scores.npz"
        np.savez(scores, **predictions(records, classes))
        began = time.perf_counter()
        report = ["--report", f"{folder}/audit.html", "--json", f"{folder}/audit.json", *sys.argv[3:]]
        subprocess.run([sys.executable, CLI, "audit", scores, *report], check=True)
        seconds = time.perf_counter() - began
        network = json.loads(pathlib.Path(folder, "audit.json").read_text())["attacks"].get("network")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # kB on Linux
    print(f"audit of {records:,} records, {classes} classes: {seconds:.1f} s, peak memory of a process {peak:.2f} GB")
    if network:
        print(f"attack network: AUC {network['auc']['value']:.4f}, accuracy {network['accuracy']['value']:.4f}")
