"""Networks for others: one file for each target, over one intermediate form (`steps`).

What leaves says nothing of the members: `about` has the list of all that is written beside the weights.
"""

from nanoprune.lab.export.export import TARGETS, export_model, write_files

__all__ = ["TARGETS", "export_model", "write_files"]
