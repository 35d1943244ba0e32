"""What is wrong with the data itself: gaps, late and repeated rows, flat lines, silence."""
