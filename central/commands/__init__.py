"""The sub-commands of loadscape-central, one module each."""
