"""A benchmark in its smallest whole form: one picture, one question, one right word. Copy, rename, change."""
