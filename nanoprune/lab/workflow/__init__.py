"""The two workflows: the comparison of methods (`reproduce`), and a single model (train, prune, shrink)."""
