"""Parameters, memory and compute: counted, measured, and estimated without weights."""
