"""How a run goes: its folder, fleets in shards over workers, interruptions, and going on with the same bits."""
