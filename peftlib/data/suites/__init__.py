"""The tasks of the study, one module per suite."""
