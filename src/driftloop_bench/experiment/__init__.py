"""Experiments: change the fleet under a running platform, and time its recovery over public interfaces only."""
