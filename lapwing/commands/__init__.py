"""Names, options and help of the larger commands; each imports its implementation when called."""
