"""The bench: simulated meters on real serial lines, towns, faults, demo and soak."""
