"""What several benchmarks share: models, runs, links and fleets that they measure."""
