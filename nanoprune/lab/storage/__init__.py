"""Files: written whole or not at all, read within bounds, nothing executed. Models, checkpoints, others' weights."""
