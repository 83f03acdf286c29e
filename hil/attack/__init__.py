"""A hostile broker between real agents and the real collector: what may it do, and who sees it?"""
