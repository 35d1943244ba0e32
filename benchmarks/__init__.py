"""Speed and quality of Lapwing, measured; nothing of the product imports this package."""
