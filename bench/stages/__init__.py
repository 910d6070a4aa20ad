"""What is measured of a cell: one module per stage, whose `measure` gives its parts of the record."""
