"""Dead letters: list, show, correct and replay them."""
