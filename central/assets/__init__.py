"""What is known about each transformer: identity, loading and thermal ageing."""
