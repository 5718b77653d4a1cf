"""The dask graph of a write: its tasks, their order, and how loads are fused into them."""
