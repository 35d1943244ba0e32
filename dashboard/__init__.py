"""The service ``lapwing dashboard``: a history of results, an API, and a page in the browser."""
