"""The commands that give, list, take back and export feedback on incidents."""
