"""One loop for every method."""
