"""What every service means by its words: values, pure meaning, and the doors to the outside."""
