"""The low-level password that every simulated DLMS meter asks for."""

LLS_PASSWORD = b"loadscape"
