"""What measures driftloop: benchmarks, experiments, campaigns, the notebooks' code and the demonstration."""
