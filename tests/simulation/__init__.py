"""The whole server in a seeded world: virtual time, one thread, storage that fails.

``python -m tests.simulation --seed 7`` runs one seed and prints its trace.
"""
