"""Attacks that compare a model's output for a record with those of shadow models, some of which were trained on it."""
