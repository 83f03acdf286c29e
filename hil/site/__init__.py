"""A whole installation on this machine: keys, broker, central, agents and meters of one town."""
