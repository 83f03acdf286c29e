"""Damaged input for every decoder that reads what a meter or a stranger may send."""
