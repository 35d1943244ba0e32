"""The notify service: sends incidents to Alertmanager, webhooks and mail."""
