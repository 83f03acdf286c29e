"""How bytes of a DLMS meter travel: HDLC, the TCP wrapper, the opening in mode E."""
