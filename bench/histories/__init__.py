"""Memory histories that PyTorch wrote on a card, held against the recording of the same step.

`pickles` reads what is in a pickle and runs nothing; `reading` makes a History of any file that has one; `matching`
finds what of it the recording has.
"""
