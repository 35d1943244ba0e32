"""Avro as writers send it: which field is what, and a plan that a kernel walks over each record."""
