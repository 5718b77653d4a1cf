"""Looking at a write before it is paid for: its figures, warnings and a picture."""
