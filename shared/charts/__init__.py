"""Charts as SVG: measured and expected values of a metric, marks, shaded times; their style."""
