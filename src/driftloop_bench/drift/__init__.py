"""The benchmark of the drift detector."""
