"""The grid as central knows it: network, places, meters and the transformers' master data."""
