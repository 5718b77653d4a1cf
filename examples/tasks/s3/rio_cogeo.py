import rasterio
import s3fs
from rio_cogeo import cog_profiles, cog_translate

with rasterio.MemoryFile() as memory, rasterio.MemoryFile() as cog:
    with memory.open(
        driver="GTiff",
        width=arr.sizes["x"],
        height=arr.sizes["y"],
        count=1,
        dtype=arr.dtype,
        crs=arr.rio.crs,
        transform=arr.rio.transform(),
        nodata=arr.rio.nodata,
    ) as source:
        source.write(arr.values, 1)
    with memory.open() as source:
        cog_translate(source, cog.name, cog_profiles.get("deflate"), quiet=True)
    s3fs.S3FileSystem().pipe_file("test/out.tif", cog.read())
