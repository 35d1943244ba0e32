"""Seeded generators of scenes: rows and expectations together, by subject."""
