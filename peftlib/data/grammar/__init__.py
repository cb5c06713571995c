"""The grammars behind the embedded suite: one module per kind of text, each with a function that draws one row."""
