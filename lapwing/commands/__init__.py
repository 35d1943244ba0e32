"""Names, options and help of the larger commands; what they do is imported when they are called."""
