"""Power cuts: what the real processes write is recorded, and every crash state of it is opened."""
