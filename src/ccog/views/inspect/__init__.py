"""Looking at how a finished file is stored, by reading its header in byte ranges."""
