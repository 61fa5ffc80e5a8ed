"""Tasks: work described in canonical JSON, with the same bytes from any process; where they run, and their store."""
