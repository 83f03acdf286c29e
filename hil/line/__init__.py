"""Serial lines of the bench: PTY pairs with a bus of simulated meters at the far end."""
