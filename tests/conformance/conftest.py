"""The tests below ``client`` run with the clients' environments, started by test_clients.py."""

collect_ignore = ["client"]
