"""The paper's five claims, each re-run and judged by a rule that was written down before: `remem study claims`."""
