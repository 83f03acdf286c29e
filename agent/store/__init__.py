"""What the agent keeps on its own disk: closed intervals, sealed batches and the stream's head."""
