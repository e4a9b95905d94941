"""Layer 1: what clients talk to. Stateless: validates, routes, calls the other layers, reduces."""
