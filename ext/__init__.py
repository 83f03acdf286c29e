"""Kernels that are too hot for Python: compiled, each with a pure twin that agrees bit for bit."""
