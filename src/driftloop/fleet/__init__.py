"""A fleet of any kind: what its rows are, the runs of its units, and the archive of those that failed."""
