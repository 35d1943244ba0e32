"""How a service is run and watched: entry, retries, readiness, counters, telemetry, fail points."""
