"""JSON, one object per record: which name is what, and numbers read as they are written."""
