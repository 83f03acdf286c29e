"""The receipt protocol under random schedules: real classes at both ends, a simulated broker."""
