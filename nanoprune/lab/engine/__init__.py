"""How work runs: batches over processes, fleets over workers, a run's folder, interruption and resuming."""
