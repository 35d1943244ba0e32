"""``lapwing export scores --to FILE``: writes results into a file that other tools read."""
