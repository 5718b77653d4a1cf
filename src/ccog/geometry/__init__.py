"""Pure rules, without dask, GDAL and I/O: what a file looks like before a pixel is touched.

From below to above: sizes and areas (``intervals``), creation options (``options``), levels with
their tiles and blocks (``pyramid``), what reductions read (``axis_reduction``) and what straddles
blocks (``seams``), from which level an overview comes (``level_reductions``), what comes where in
the file (``file_order``, ``tile_order``), what is uploaded together (``upload_groups``) and as
which parts (``parts``, ``part_numbers``), and all of this for one file (``cog``).
"""
