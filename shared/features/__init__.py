"""What trained models see of a row: a vector of values, rolling figures and the clock."""
