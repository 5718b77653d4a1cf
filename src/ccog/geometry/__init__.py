"""Pure planning: options, levels, blocks, seams, tile order, parts. No dask, no GDAL, no I/O."""
