"""Real servers for tests: installed from registries, started on loopback, killed when told to.

``packages.py`` installs, ``base.py`` runs, one module per server says how, ``fixtures.py`` gives
them to pytest, and ``tcp_proxy.py`` and ``http_faults.py`` stand in front of them and misbehave.
``python -m tests.services`` is the command line behind ``make services``.
"""
