"""A meter's load profile: from the rows of its buffer to intervals."""
