"""Moving a cluster's data from one set of storage backends to another."""
