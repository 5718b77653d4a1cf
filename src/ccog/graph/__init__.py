"""The dask graph of a write: which tasks there are, in which order they run, how loads are fused into them."""
