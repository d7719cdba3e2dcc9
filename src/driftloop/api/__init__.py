"""The public API: what console, scripts and people ask of a platform and do with it, for all its fleets."""
