"""What processes say to each other: causes, events, alerts, errors, and the one client of the retrainer."""
