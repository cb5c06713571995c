"""HyperFormer's pages: what its tables show beside the shared tables and figures."""
