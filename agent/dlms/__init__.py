"""DLMS/COSEM over HDLC: logical names, GET, no security or a password (LLS). No ciphering yet."""
