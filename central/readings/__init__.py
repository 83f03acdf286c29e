"""Readings: opened, decoded, kept in the lake, asked through curated SQL."""
