"""All that calls GDAL: tiles, overviews, the header's template; and statistics as GDAL counts."""
