"""One metric of an entity: from a value to how unusual each view finds it."""
