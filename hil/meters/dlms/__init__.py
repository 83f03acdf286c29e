"""Simulated DLMS meters: link, association, ciphers and services, written apart from the agent."""
