"""Meter classes as data: one TOML file per class of meter."""
