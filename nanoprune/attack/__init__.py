"""Membership inference: attacks see probabilities and labels, nothing else."""
