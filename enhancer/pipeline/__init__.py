"""From an order to its result: the one engine, and a plan for each kind of task."""
