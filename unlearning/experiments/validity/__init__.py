"""Metrics on trial: which of them tell who knows from who never did, and stay the same after a knock: `remem study validity`."""
