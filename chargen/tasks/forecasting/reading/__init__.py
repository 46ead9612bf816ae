"""Read the rows of a table as numbers with times: the columns, the cells, and what is missing."""
