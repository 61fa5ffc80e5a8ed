"""Files: written whole or not at all, read within bounds, nothing executed. HDF5, checkpoints, bounded readers."""
