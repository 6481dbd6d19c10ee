"""The asset graph: one module per asset, all keyed by session."""
