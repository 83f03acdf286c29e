"""How the samples of a meter without a load profile become closed intervals."""
