"""How ``data/t5-embedded`` was made: span corruption while it imitates MiniLM (`spans`, `imitation`), then a mixture of
tasks (`mixture`). ``python -m tools.t5_embedded`` makes it again; no run of an experiment needs this."""
