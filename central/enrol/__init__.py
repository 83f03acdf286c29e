"""Devices get their certificates: by a token the first time, by the one they have from then on."""
