"""Reading lmms-eval's results and telling them to people."""
