"""A town's electricity on this machine: everything started, watched and stopped by one command."""
