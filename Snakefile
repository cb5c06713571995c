# The batch graph, in two halves with the records of finished runs between them (data/runs). Start it through the front
# door, `python -m peftlib.batch` (or `make book`), which writes the plan, cleans up after a kill and shows progress.
#
#   train   one papermill job a shard of an experiment. It writes records itself, atomically; what Snakemake knows as its
#           output is only the executed notebook, because Snakemake deletes the outputs of failed jobs.
#   page    one papermill job a page of the book. It reads records and trains nothing.
#   book    the pages, staged beside the hand-written ones, built by Jupyter Book.
#
# A job knows what it reads by the digest of the contents, which is a parameter: no file that somebody edits is an input, so
# that dates decide nothing (not even one in the future), and a graph of few files is quick. Paths are relative to the build's folder: Snakemake reads braces in a path as wildcards.
import json
import sys

with open(config["plan"], encoding="utf-8") as file:
    PLAN = json.load(file)
ROOT, TRAIN, PAGES = PLAN["root"], PLAN["train"], PLAN["pages"]

# What runs elsewhere has to be cancelled, which Snakemake does when it is interrupted; what runs here just ends.
if workflow.is_main_process and "parent" in config:
    from peftlib.batch import guard

    guard.exit_with(int(config["parent"]), gently=config["executor"] != "local")
    if config["executor"] == "local":
        guard.exit_at_signals()


# `exec`: no shell stands between Snakemake and the worker, which ends when its parent does.
RUN = (
    "exec {sys.executable:q} -m peftlib.batch.worker {params.notebook:q} {output[0]:q} --log {log[0]:q} --root {ROOT:q}"
    " --parameters {params.parameters:q} --parent $PPID"
)

GPUS = f" --gpus '{config['gpus']}'" if "gpus" in config else ""  # several on this machine: each job has one of them


wildcard_constraints:
    job=".+",
    page=".+",


rule trained:
    input: expand("train/{job}.ipynb", job=TRAIN)


rule train:  # behind the jobs that train what its runs begin from
    message: "{wildcards.job}"
    input: lambda w: [f"train/{job}.ipynb" for job in TRAIN[w.job]["after"]]
    output: "train/{job}.ipynb"
    log: "logs/train/{job}.log"
    params:
        notebook=lambda w: TRAIN[w.job]["notebook"],
        parameters=lambda w: json.dumps(TRAIN[w.job]["parameters"]),
        reads=lambda w: TRAIN[w.job]["digest"],
        records=lambda w: TRAIN[w.job]["records"],  # another set of runs is another job
    resources:
        mem_mb=lambda w: TRAIN[w.job]["mem_mb"],
        runtime=lambda w: TRAIN[w.job]["minutes"],
        gpu=lambda w: TRAIN[w.job]["gpu"],
    shell: RUN + GPUS


rule page:
    message: "{wildcards.page}"
    output: "pages/{page}.ipynb"
    log: "logs/pages/{page}.log"
    params:
        notebook=lambda w: PAGES[w.page]["notebook"],
        parameters=lambda w: json.dumps(PAGES[w.page]["parameters"]),
        reads=lambda w: PAGES[w.page]["digest"],
        shows=lambda w: PAGES[w.page]["shows"],
    resources: mem_mb=3000, runtime=30
    shell: RUN + " --warm"


rule book:
    localrule: True
    message: "the book"
    input: expand("pages/{page}.ipynb", page=PAGES)
    output: touch("book.done")
    log: "logs/book.log"
    params:
        reads=PLAN["digest"],
    shell:
        "exec {sys.executable:q} -m peftlib.batch.site --root {ROOT:q} --build . --log {log[0]:q} --parent $PPID"
