"""The study: HSplitLoRA's claims against every method of the catalogue, measured and simulated."""
