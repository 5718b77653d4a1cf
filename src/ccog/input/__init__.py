"""What users hold, as one raster: arrays, xarray objects and files, checked, with their metadata."""
