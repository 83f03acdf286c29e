"""How the shipped towns are cut from their sources; needs pandapower, simbench and emobpy."""
