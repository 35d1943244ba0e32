"""``lapwing explain ID``: recomputes one verdict from its source records and shows what led to it."""
