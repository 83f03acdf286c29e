"""The device's side of enrolment: the first certificate by a token, and its renewal."""
