"""Where records go: one module per kind of server, one contract for all of them."""
