"""From bytes to columns: a decoder for each input format, and the checks that they share."""
