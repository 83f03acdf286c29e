"""The serial line itself: opening, timing, silence. Knows no protocol."""
