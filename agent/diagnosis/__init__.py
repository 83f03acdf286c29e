"""What `doctor` gathers for a support request, and how names and secrets are kept out of it."""
