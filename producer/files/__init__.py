"""CSV files as columns: which column is what, in which form its cells are."""
