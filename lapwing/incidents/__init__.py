"""The incidents service, and the commands that show incidents."""
