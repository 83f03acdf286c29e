"""DLMS/COSEM meters: link, security, services, load profile; docs/dlms.md says what is spoken."""
