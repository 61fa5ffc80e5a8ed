"""A release: exported weights and a model card, without the laboratory's record of the members."""

from __future__ import annotations

import pathlib
from typing import Any

from nanoprune.lab.export.about import about
from nanoprune.lab.export.card import card, measured
from nanoprune.lab.export.export import Files
from nanoprune.lab.export.safetensors import to_safetensors
from nanoprune.lab.models.model import Model


def release_files(
    model: Model,
    out: pathlib.Path,
    data: str,
    audit: dict[str, Any] | None = None,
    labels: list[str] | None = None,
    licence: str = "not stated",
) -> Files:
    """OUT.safetensors, OUT.card.md and OUT.card.json for the model file OUT.h5, path -> bytes; nothing is written.

    data: the training data as the author describes it. audit: from `about.read_audit`.
    """
    metadata = about(model, "dense", audit, labels, licence)
    return {out.with_suffix(".safetensors"): to_safetensors(model.net, metadata)} | card_files(
        model, out, metadata, data
    )


def card_files(model: Model, out: pathlib.Path, metadata: dict[str, Any], data: str) -> Files:
    """OUT.card.md and OUT.card.json. metadata: of the file that they describe."""
    markdown, json_text = card(metadata, measured(model.net), data, out.stem)
    return {out.with_suffix(".card.md"): markdown.encode(), out.with_suffix(".card.json"): json_text.encode()}
