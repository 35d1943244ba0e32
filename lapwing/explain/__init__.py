"""``lapwing explain ID``: recomputes one verdict from its records and shows what led to it."""
