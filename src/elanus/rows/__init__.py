"""From what a user sends or keeps in files to complete rows: checks, defaults, routing.

Below the roles, because two of them need the same: a proxy that inserts, a data node that imports.
"""
