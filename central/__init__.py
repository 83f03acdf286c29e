"""What runs at the utility: from sealed batches to readings, map and asset records."""
