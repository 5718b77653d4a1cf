"""Progress of writes while they are computed."""
