"""The service that makes one metric event of each row of records that hold several."""
