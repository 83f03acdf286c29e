"""Simulated meters: a responder per protocol over what a meter shows."""
