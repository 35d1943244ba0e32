"""The detector of episodes: seasons, jumps, levels and courses of each metric, and all together."""
