"""A broker and a Schema Registry inside this process."""
