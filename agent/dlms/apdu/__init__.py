"""What client and meter say to each other: one module per service. Bytes in, values out."""
