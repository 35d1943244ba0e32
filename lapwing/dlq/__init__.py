"""Dead letters for a person: listed, shown, corrected and sent back."""
