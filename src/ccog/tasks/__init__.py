"""What the tasks of a write do, without dask: blocks, uploads, the finish, and checkpoints."""
