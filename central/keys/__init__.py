"""Keys and certificates of one tenant: made offline, handed out per device and per process."""
