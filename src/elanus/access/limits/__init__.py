"""Rates and quotas: which requests the proxy refuses, so that the others get what they need."""
