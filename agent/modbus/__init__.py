"""Modbus RTU: transactions, meter profiles, request plans and the driver."""
