"""All that calls GDAL: tiles, overviews, the template of the header; and statistics as GDAL counts them."""
