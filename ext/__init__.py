"""Kernels that are too hot for Python: each compiled, each with a pure twin that agrees bit for bit."""
