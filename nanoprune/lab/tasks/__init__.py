"""Work as texts that any process performs to the same bytes: tasks, where they run, and the store of their results."""
