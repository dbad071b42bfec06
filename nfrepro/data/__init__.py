"""Data sets: their options, where their files are, how they are read, and the batches made of them.

Import what you need from the modules: `options` and `location` need no torch; `sources` and `batches` do.
"""
