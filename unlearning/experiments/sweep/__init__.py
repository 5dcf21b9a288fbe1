"""Forget methods tuned alike and judged on rows that no setting was chosen by: `remem sweep`."""
