"""The batch: Snakemake runs papermill jobs, first those that train, then those that render the book's pages.

`python -m peftlib.batch --preset quick` is the front door (`front`); Snakemake runs one `worker` a notebook.
"""
