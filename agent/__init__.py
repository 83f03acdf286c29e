"""What runs on the concentrator: from the meters' serial lines to sealed batches."""
