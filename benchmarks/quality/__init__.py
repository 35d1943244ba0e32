"""All judges of detection in one table, one build or two side by side."""
