"""Compacter's pages: what its tables and figures show beside the shared tables and figures."""
