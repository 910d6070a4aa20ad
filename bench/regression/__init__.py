"""Regression: what changed between two sets of records, and why.

    measured.py   a record, reduced to what is compared: numbers, and what they are true of
    verdicts.py   two sets of these -> a verdict per cell
    gate.py       which verdicts end a command with an error
    growth.py     two compositions of a peak -> what grew, by category and module
    baseline.py   the file of accepted numbers
    fresh.py      measured anew: the cells' numbers and compositions

Nothing but fresh.py measures; the others are functions of plain data.
"""
