"""A write in progress: where it begins, who removes it when it fails, and who is told how far it is."""
