"""The device's own keys: who makes them, how they lie at rest, how new ones take their place."""
