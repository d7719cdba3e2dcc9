"""driftloop: a predictive-maintenance platform that heals itself when its fleet changes."""

__version__ = "0.2.0"
