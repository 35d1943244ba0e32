"""Notices: what is sent about an incident, to whom, and in which words."""
