import rasterio
import rioxarray

with rasterio.Env(CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE=True):
    arr.rio.to_raster("/vsis3/test/out.tif", driver="COG", compress="deflate")
