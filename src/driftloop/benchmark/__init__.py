"""Benchmarks: the commands that print the figures a referee may check; each room computes its own."""
