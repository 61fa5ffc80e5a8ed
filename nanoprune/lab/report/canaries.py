"""What an audit by canaries found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def canaries_text(found: Mapping[str, Any]) -> list[str]:
    """One line for what there is, one for each bound, and one on the claim of a model with differential privacy."""
    confidence, delta = f"{100 * (1 - found['alpha']):g}%", found["delta"]
    area, with_delta = found["auc"], found["epsilon_with_delta"]
    lines = [f"{found['canaries']:,} canaries, {found['inserted']:,} of them inserted by coins"]
    if area:
        lines[0] += f"; AUC of their labels' log odds {area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    lines += [
        f"epsilon is at least {found['epsilon_lower_bound']:.2f} at delta 0, {with_delta['any']:.2f} at delta "
        f"{delta:g}, with confidence {confidence} each",
        f"epsilon is at least {with_delta['gaussian']:.2f} at delta {delta:g} if the training's trade-off curve is "
        "that of the Gaussian mechanism, as of DP-SGD with many steps",
    ]
    if found["claimed"]:
        claim = f"the claim of epsilon {found['claimed']['epsilon']:.4g} at delta {found['claimed']['delta']:g}"
        lines.append(f"{claim} is {'REFUTED' if found['refuted'] else 'not refuted'} by the canaries")
    return lines
