"""Export of networks: one file for each target, from one intermediate representation (`steps`).

Exported files reveal nothing about the members: `about` lists all metadata that is written beside the weights.
"""

from nanoprune.lab.export.export import TARGETS, export_model, write_files

__all__ = ["TARGETS", "export_model", "write_files"]
