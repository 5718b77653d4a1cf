import rasterio
from rio_cogeo import cog_profiles, cog_translate

for n in range(series.sizes["time"]):
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=series.sizes["x"],
            height=series.sizes["y"],
            count=1,
            dtype=series.dtype,
            crs=series.rio.crs,
            transform=series.rio.transform(),
            nodata=series.rio.nodata,
        ) as source:
            source.write(series.isel(time=n).values, 1)
        with memory.open() as source:
            cog_translate(source, f"{n}.tif", cog_profiles.get("lzw"), quiet=True)
