"""Methods of one branch of the taxonomy; see `peftlib.methods`."""
