"""Whom to ask next on a line, and the thread that asks."""
