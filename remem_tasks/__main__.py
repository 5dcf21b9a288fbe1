"""`python -m remem_tasks …` is `remem …`."""

from remem_tasks.cli import main

if __name__ == "__main__":
    main()
