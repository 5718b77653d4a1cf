import rioxarray

for n in range(series.sizes["time"]):
    series.isel(time=n).rio.to_raster(f"{n}.tif", driver="COG")
