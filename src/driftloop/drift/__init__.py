"""Drift: what healthy traffic looks like, how far live traffic is from it, and saying so."""
