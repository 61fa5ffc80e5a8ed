"""Execution: batches over processes, fleets over workers, the folder of a run, interruption and resuming."""
