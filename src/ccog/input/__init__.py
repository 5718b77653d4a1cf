"""Arrays, xarray objects and files of users as one raster, checked, with its metadata."""
