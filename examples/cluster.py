"""Write from the worker processes of a cluster on this machine."""

import dask.array as da
from distributed import Client, LocalCluster

import ccog


def main() -> None:
    pixels = da.random.default_rng(0).integers(0, 255, (4096, 4096), chunks=1024, dtype="uint8")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        result = ccog.write_ccog(
            pixels, "cluster.tif", COG_creation_options={"compress": "lzw"}
        ).compute()
    print(result)


if __name__ == "__main__":  # processes of the cluster import this file
    main()
