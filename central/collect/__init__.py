"""Takes sealed batches from the broker into the journal and answers with receipts."""
