"""From bytes to columns: one decoder for each input format, and the checks that all of them make."""
